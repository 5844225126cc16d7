//! Every file of the fuzz targets' corpus through the same functions as the targets.

use std::fs;
use std::path::Path;

use ephemwork::fuzzing;
use proptest::prelude::*;

fn every_file_of(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        // Shown only when the run below panics.
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count >= 5, "{} has {count} files", directory.display());
}

#[test]
fn config() {
    every_file_of("config", fuzzing::config);
}

#[test]
fn tag() {
    every_file_of("tag", fuzzing::tag);
}

#[test]
fn head() {
    every_file_of("head", fuzzing::head);
}

#[test]
fn control() {
    every_file_of("control", fuzzing::control);
}

#[test]
fn host_key() {
    every_file_of("host_key", fuzzing::host_key);
}

#[test]
fn imds_block() {
    every_file_of("imds_block", fuzzing::imds_block);
}

#[test]
fn ssm_message() {
    every_file_of("ssm_message", fuzzing::ssm_message);
}

#[test]
fn ssm_handshake() {
    every_file_of("ssm_handshake", fuzzing::ssm_handshake);
}

/// What HTTP/1 requests are made of, and what breaks them.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST http://u@b:1/x?y HTTP/1.1\r\nHost: a\r\n",
        b"OPTIONS * HTTP/1.0\r\n",
        b"GET /<\xff>`?\"#` HTTP/1.1\r\nHost: a\r\n",
        b"GET /",
        b"GET http://",
        b"[::1]:80",
        b"@",
        b"#",
        b"?",
        b"|{}\\^",
        b" HTTP/1.1\r\nHost: a\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"Content-Length: 3\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Connection: x-a, Upgrade, close\r\n",
        b"Upgrade: websocket\r\n",
        b"Upgrade: h2c\r\n",
        b"TE: gzip, trailers\r\n",
        b"X-Ephemwork: alice:api\r\n",
        b"x-ephemwork: bob:api,alice:api\r\n",
        b"Origin: http://a\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-ephemwork\r\n",
        b"Expect: 100-continue\r\n",
        b" folded\r\n",
        b"3\r\nabc\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n",
        b"1;a=b\r\n",
        b"abc",
        b"\0",
        b"\xff",
    ];
    prop_oneof![12 => prop::sample::select(words).prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..8)]
}

proptest! {
    #[test]
    fn any_head(fragments in prop::collection::vec(fragment(), 0..20)) {
        fuzzing::head(&fragments.concat());
    }

    #[test]
    fn any_tag(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        fuzzing::tag(&bytes);
    }

    #[test]
    fn any_ssm_message(bytes in prop::collection::vec(any::<u8>(), 0..300), output in any::<bool>(), length in 0..260u32) {
        let mut bytes = bytes;
        if output && bytes.len() >= 36 {
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..36].copy_from_slice(b"output_stream_data              ");
        }
        fuzzing::ssm_message(&bytes);
        fuzzing::ssm_handshake(&bytes);
    }
}
