//! Messages and handshakes, byte by byte.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::agent::Frame;
use crate::ssm::event::Refusal;
use crate::ssm::handshake::terminates;
use crate::ssm::id::Id;
use crate::ssm::message::Writer;
use crate::ssm::{Complete, Kind, Malformed, Message, Request};

const ID: Id = Id(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
const OF: Id = Id([0xab; 16]);

/// A message of one byte, 0x0a, as the layout has it.
fn by_hand() -> Vec<u8> {
    let mut bytes = b"\x00\x00\x00\x74input_stream_data               \x00\x00\x00\x01".to_vec();
    bytes.extend(b"\x00\x00\x01\x8b\xcf\xe5\x68\x05"); // 1,700,000,000,005 ms
    bytes.extend(b"\x00\x00\x00\x00\x00\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00");
    bytes.extend(b"\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x00\x11\x22\x33\x44\x55\x66\x77");
    bytes.extend(b"\x01\xba\x47\x19\xc8\x0b\x6f\xe9\x11\xb0\x91\xa7\xc0\x51\x24\xb6");
    bytes.extend(b"\x4e\xee\xce\x96\x4e\x09\xc0\x58\xef\x8f\x98\x05\xda\xca\x54\x6b");
    bytes.extend(b"\x00\x00\x00\x01\x00\x00\x00\x01\x0a");
    bytes
}

#[test]
fn layout() {
    let mut writer = Writer::new(1_700_000_000_000);
    let written = writer.stream(Duration::from_millis(5), 65538, ID, 1, b"\n");
    assert_eq!(written, by_hand());
    let read = Message::parse(written).unwrap();
    assert_eq!(
        (read.kind, read.created, read.sequence),
        (Kind::Input, 1_700_000_000_005, 65538)
    );
    assert_eq!(
        (read.flags, read.id, read.payload_type, &read.payload[..]),
        (0, ID, 1, &b"\n"[..])
    );
}

#[test]
fn acknowledgement() {
    let mut writer = Writer::new(1);
    let bytes = writer.acknowledgement(Duration::ZERO, 18_446_744, OF, ID);
    let text = concat!(
        r#"{"AcknowledgedMessageType":"output_stream_data","AcknowledgedMessageId":"abababab-abab-abab-abab-abababababab","#,
        r#""AcknowledgedMessageSequenceNumber":18446744,"IsSequentialMessage":true}"#
    );
    assert_eq!(&bytes[120..], text.as_bytes());
    assert_eq!(&bytes[80..112], &Sha256::digest(text)[..]);
    let read = Message::parse(bytes).unwrap();
    assert_eq!(
        (read.kind, read.sequence, read.flags, read.payload_type),
        (Kind::Acknowledge, 0, 3, 0)
    );
    assert_eq!(read.acknowledged(), Ok(18_446_744));
    let created = |epoch| {
        Message::parse(Writer::new(epoch).acknowledgement(Duration::ZERO, 0, OF, ID))
            .unwrap()
            .created
    };
    assert_eq!(
        (created(0), created(u64::MAX)),
        (1, u64::MAX),
        "0 is refused by AWS's programs"
    );
}

#[test]
fn what_is_read_and_what_is_not() {
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: Result<(Kind, &[u8]), Malformed>| {
        let mut bytes = by_hand();
        change(&mut bytes);
        let read = Message::parse(bytes.clone().into());
        let short = read.as_ref().map(|message| (message.kind, &message.payload[..]));
        assert_eq!(short.map_err(|why| *why), expected, "{bytes:?}");
    };
    let short = |bytes| Err(Malformed::Short { bytes });
    check(&|_| (), Ok((Kind::Input, b"\n")));
    // Types: NUL and spaces fill up, unknown ones are read too.
    check(&|bytes| bytes[21..36].fill(0), Ok((Kind::Input, b"\n")));
    check(
        &|bytes| bytes[4..36].copy_from_slice(b"\0 acknowledge \0                 "),
        Ok((Kind::Acknowledge, b"\n")),
    );
    check(
        &|bytes| bytes[4..36].copy_from_slice(b"agent_session_state             "),
        Ok((Kind::Other, b"\n")),
    );
    check(&|bytes| bytes[4..36].fill(0xff), Ok((Kind::Other, b"\n")));
    // Lengths: the payload is what follows the header, whatever its length field says.
    check(&|bytes| bytes[119] = 200, Ok((Kind::Input, b"\n")));
    check(&|bytes| bytes.truncate(119), short(119));
    check(&|bytes| bytes.truncate(36), short(36));
    check(&|bytes| bytes.truncate(35), short(35));
    check(&|bytes| bytes.clear(), short(0));
    check(&|bytes| bytes[3] = 115, Err(Malformed::Header { length: 115 }));
    check(&|bytes| bytes[3] = 118, short(121));
    check(&|bytes| bytes[..4].fill(0xff), short(121));
    // A longer header of a later version: its payload and its length move.
    check(
        &|bytes| {
            bytes[3] = 118;
            bytes.splice(116..116, [0, 0]);
        },
        Ok((Kind::Input, b"\n")),
    );
    // Digests, except where the length is 0.
    check(&|bytes| bytes[80] ^= 1, Err(Malformed::Digest));
    check(&|bytes| bytes[120] = b'\r', Err(Malformed::Digest));
    check(&|bytes| bytes.push(b'\n'), Err(Malformed::Digest));
    check(
        &|bytes| {
            bytes[119] = 0;
            bytes[80] ^= 1;
        },
        Ok((Kind::Input, b"\n")),
    );
    // The gateway's own two have a type and nothing else.
    for (name, kind) in [("start_publication", Kind::Start), ("pause_publication", Kind::Pause)] {
        let bytes = Frame::bare(name);
        for length in [36, 40] {
            assert_eq!(Message::parse(bytes[..length].to_vec().into()).map(|it| it.kind), Ok(kind));
        }
    }
}

#[test]
fn payloads_of_json() {
    let check = |payload: &'static [u8], acknowledged: Option<i64>, output: &str| {
        let mut message = Message::parse(by_hand().into()).unwrap();
        message.payload = Bytes::from_static(payload);
        assert_eq!(message.acknowledged().ok(), acknowledged, "{payload:?}");
        assert_eq!(message.output(), output, "{payload:?}");
    };
    check(br#"{"AcknowledgedMessageSequenceNumber":-1,"More":[{}]}"#, Some(-1), "");
    check(br#"{"AcknowledgedMessageSequenceNumber":"1"}"#, None, "");
    check(
        br#"{"Output":"\n----------ERROR-------\nno such thing\n"}"#,
        None,
        "no such thing",
    );
    check(br#"{"Output":null}"#, None, "");
    check(br#"{"Output":"Session ended"}"#, None, "Session ended");
    check(b"[", None, "");
    check(b"\xff", None, "");
}

#[test]
fn handshakes() {
    let check = |actions: &str, refusal: Option<Refusal>, response: &str| {
        let text = format!(r#"{{"AgentVersion":"3.3.1142.0","RequestedClientActions":{actions},"More":1}}"#);
        let request = Request::parse(text.as_bytes()).unwrap();
        assert_eq!(request.agent_version, "3.3.1142.0");
        assert_eq!(request.refusal(), refusal.as_ref(), "{text}");
        let (got, expected): (serde_json::Value, serde_json::Value) = (
            serde_json::from_slice(&request.response()).unwrap(),
            serde_json::from_str(response).unwrap(),
        );
        assert_eq!(got, expected, "{text}");
    };
    check(
        r#"[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"portNumber":"22"}}}]"#,
        None,
        r#"{"ClientVersion":"1.2.700.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#,
    );
    // A document with which agents multiplex, unless the client is too old for it.
    check(
        r#"[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"type":"LocalPortForwarding"}}}]"#,
        None,
        r#"{"ClientVersion":"1.1.69.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#,
    );
    let encryption = Refusal::Encryption.to_string();
    check(
        r#"[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":null}},{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"k"}}]"#,
        Some(Refusal::Encryption),
        &format!(
            r#"{{"ClientVersion":"1.2.700.0","ProcessedClientActions":[{{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}},
            {{"ActionType":"KMSEncryption","ActionStatus":3,"ActionResult":null,"Error":"{encryption}"}}],"Errors":["{encryption}"]}}"#
        ),
    );
    let shell = Refusal::SessionType("Standard_Stream".into());
    let why = serde_json::to_string(&shell.to_string()).unwrap();
    check(
        r#"[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream","Properties":null}}]"#,
        Some(shell),
        &format!(
            r#"{{"ClientVersion":"1.2.700.0","ProcessedClientActions":[{{"ActionType":"SessionType","ActionStatus":2,"ActionResult":null,"Error":{why}}}],"Errors":[{why}]}}"#
        ),
    );
    let unknown = Refusal::Action("Dance".into());
    let why = serde_json::to_string(&unknown.to_string()).unwrap();
    check(
        r#"[{"ActionType":"Dance"}]"#,
        Some(unknown),
        &format!(
            r#"{{"ClientVersion":"1.2.700.0","ProcessedClientActions":[{{"ActionType":"Dance","ActionStatus":3,"ActionResult":null,"Error":{why}}}],"Errors":[{why}]}}"#
        ),
    );
    check(
        "[]",
        None,
        r#"{"ClientVersion":"1.2.700.0","ProcessedClientActions":[],"Errors":null}"#,
    );
    let many = format!(r#"{{"RequestedClientActions":[{}0]}}"#, "0,".repeat(16));
    for unreadable in ["", "{}", "[]", r#"{"RequestedClientActions":null}"#, &many] {
        assert_eq!(Request::parse(unreadable.as_bytes()), None, "{unreadable}");
    }
    let complete = |payload: &[u8]| Complete::parse(payload).customer_message;
    assert_eq!(
        complete(br#"{"HandshakeTimeToComplete":1,"CustomerMessage":"be good\n"}"#),
        "be good"
    );
    assert_eq!(complete(b""), "");
}

#[test]
fn agents_that_know_the_flag() {
    for (version, knows) in [
        ("3.3.1142.0", true),
        ("2.3.722.0", false),
        ("2.3.723.0", true),
        ("2.3.1000", true),
        ("2.3", false),
        ("1.9.9999.9", false),
        ("", true),
        ("later", true),
    ] {
        assert_eq!(terminates(version), knows, "{version}");
    }
}

proptest! {
    #[test]
    fn round_trip(payload in prop::collection::vec(any::<u8>(), 0..3000), sequence in 0..i64::MAX, id: [u8; 16], of: [u8; 16], payload_type: u32) {
        let mut writer = Writer::new(77);
        let bytes = writer.stream(Duration::from_millis(3), sequence as u64, Id(id), payload_type, &payload);
        // A second one in the same block does not touch the first.
        let ack = writer.acknowledgement(Duration::ZERO, sequence as u64, Id(of), Id(id));
        let other = Frame::read(&bytes);
        prop_assert_eq!((other.sequence, other.payload_type, &other.payload), (sequence, payload_type, &payload));
        prop_assert_eq!(other.id, Id(id).to_string());
        let read = Message::parse(bytes).unwrap();
        let expected = Message { kind: Kind::Input, created: 80, sequence, flags: 0, id: Id(id), payload_type, payload: payload.into() };
        prop_assert_eq!(read, expected);
        prop_assert_eq!(Message::parse(ack).unwrap().acknowledged(), Ok(sequence));
    }
}
