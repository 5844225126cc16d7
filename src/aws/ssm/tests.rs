//! Systems Manager as it is heard and spoken. The answers have the shape of those in its API Reference.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::call::Call;
use super::super::damage::{read, refuse};
use super::*;

fn body(call: &impl Call) -> Value {
    serde_json::from_slice(&call.request().body).unwrap()
}

#[test]
fn parameters() {
    let one = r#"{"ARN":"arn:p","DataType":"text","LastModifiedDate":1.582657288344E9,"Name":"/a","Type":"SecureString","Value":"secret","Version":3}"#;
    let parameter = read::<GetParameter>(&format!(r#"{{"Parameter":{one}}}"#));
    assert_eq!((parameter.kind, parameter.version), (ParameterKind::SecureString, 3));
    assert_eq!(format!("{parameter:?}").find("secret"), None);
    refuse::<GetParameter>(&[
        "",
        "[]",
        "null",
        "{}",
        r#"{"Parameter":[]}"#,
        r#"{"Parameter":{"Name":1,"Value":"a"}}"#,
    ]);
    let page = read::<GetParametersByPath>(&format!(r#"{{"Parameters":[{one}],"NextToken":"n"}}"#));
    assert_eq!((page.items, page.next.as_deref()), (vec![parameter], Some("n")));
    assert_eq!(read::<GetParametersByPath>(r#"{"Parameters":[],"NextToken":""}"#).next, None);
    refuse::<GetParametersByPath>(&[r#"{"Parameters":[1]}"#]);
    assert_eq!(read::<PutParameter>(r#"{"Tier":"Standard","Version":1}"#), 1);
    read::<DeleteParameter>("{}");
    let put = PutParameter {
        name: "/a".to_owned(),
        value: "v".to_owned(),
        kind: ParameterKind::String,
        description: "d".to_owned(),
        existing: Existing::Refused([("k".to_owned(), "v".to_owned())].into()),
    };
    assert_eq!(
        body(&put),
        json!({"Name": "/a", "Value": "v", "Type": "String", "Description": "d", "Overwrite": false, "Tags": [{"Key": "k", "Value": "v"}]})
    );
    let headers = put.request().headers;
    assert_eq!(headers[1], ("x-amz-target".into(), "AmazonSSM.PutParameter".to_owned()));
}

#[test]
fn agents_and_sessions() {
    let found = r#"{"InstanceInformationList":[{"InstanceId":"i-1","PingStatus":"Online","LastPingDateTime":1582657288.5,"AgentVersion":"3.3"}]}"#;
    let agent = read::<DescribeInstanceInformation>(found).items.remove(0);
    assert_eq!(
        agent.last_ping,
        Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_582_657_288_500))
    );
    for time in ["-1", "1e300", "\"x\"", "null", "253402300800"] {
        let odd = found.replace("1582657288.5", time);
        assert_eq!(read::<DescribeInstanceInformation>(&odd).items[0].last_ping, None, "{time}");
    }
    assert_eq!(body(&DescribeInstanceInformation::default()), json!({}));
    let started = read::<StartSession>(r#"{"SessionId":"s-1","StreamUrl":"wss://x/s-1?t=AAAA","TokenValue":"AAAA"}"#);
    assert_eq!(format!("{started:?}").find("AAAA"), None);
    for over in [
        r#"{"SessionId":"s-1"}"#,
        r#"{"SessionId":"s-1","TokenValue":"","StreamUrl":"wss://x"}"#,
    ] {
        assert_eq!(read::<ResumeSession>(over), None, "{over}");
    }
    refuse::<ResumeSession>(&[r#"{"SessionId":"s-1","TokenValue":"AAAA"}"#]);
    let found =
        r#"{"Sessions":[{"SessionId":"s-1","Target":"i-1","Status":"Connected","StartDate":1582657288,"Owner":"arn:u"}]}"#;
    assert_eq!(read::<DescribeSessions>(found).items[0].owner.as_deref(), Some("arn:u"));
    read::<TerminateSession>(r#"{"SessionId":"s-1"}"#);
    read::<SendSSHPublicKey>(r#"{"RequestId":"r","Success":true}"#);
    refuse::<SendSSHPublicKey>(&[r#"{"Success":false}"#, "{}"]);
}
