//! S3 as it is heard and spoken. The answers have the shape of those in the S3 API Reference.

use super::super::call::{Call, Reply};
use super::super::damage::{read, refuse, reply};
use super::super::{Partition, Unreadable};
use super::*;

#[test]
fn locations() {
    let check = |uri: &str, expected: Option<(&str, &str)>| {
        let found = Location::parse(uri);
        let found = found.as_ref().map(|found| (found.bucket.as_str(), found.key.as_str()));
        assert_eq!(found, expected, "{uri}");
    };
    check("s3://shop-releases/a/b c", Some(("shop-releases", "a/b c")));
    check("s3://shop.releases/a", Some(("shop.releases", "a")));
    for wrong in [
        "",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "https://bucket/key",
        "s3://Bucket/key",
        "s3://b/key",
        "s3://a_bucket/k",
    ] {
        check(wrong, None);
    }
    let location = Location::parse("s3://bucket/a/b").unwrap();
    assert_eq!(
        (location.to_string().as_str(), location.arn(Partition::Cn).as_str()),
        ("s3://bucket/a/b", "arn:aws-cn:s3:::bucket/a/b")
    );
}

fn with(headers: &[(&'static str, &str)]) -> Reply {
    let mut reply = reply("");
    for (name, value) in headers {
        reply.headers.append(*name, value.parse().unwrap());
    }
    reply
}

#[test]
fn objects() {
    let head = HeadObject::answer(&with(&[
        ("content-length", "8"),
        ("etag", "\"e\""),
        ("x-amz-meta-sha256", "01"),
        ("x-other", "x"),
    ]))
    .unwrap();
    assert_eq!(
        (head.size, head.etag.as_deref(), head.metadata.len()),
        (Some(8), Some("\"e\""), 1)
    );
    assert_eq!(HeadObject::answer(&with(&[("content-length", "-8")])).unwrap().size, None);
    let get = GetObject {
        location: Location::parse("s3://bucket/a b/c").unwrap(),
        range: Some((10, 5)),
        if_match: None,
    };
    let ask = get.request();
    assert_eq!(
        (ask.path.as_str(), ask.headers[0].1.as_str()),
        ("/bucket/a%20b/c", "bytes=10-14")
    );
    for range in [(0, 0), (u64::MAX, u64::MAX)] {
        let _: Ask = GetObject {
            range: Some(range),
            ..get.clone()
        }
        .request();
    }
    assert_eq!(
        GetObject::answer(&with(&[("content-range", "bytes 10-14/100")]))
            .unwrap()
            .whole,
        Some(100)
    );
}

#[test]
fn parts() {
    assert_eq!(
        read::<CreateMultipartUpload>(
            "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        ),
        "u"
    );
    refuse::<CreateMultipartUpload>(&["", "<InitiateMultipartUploadResult/>"]);
    let body = "<ListPartsResult><NextPartNumberMarker>1</NextPartNumberMarker><IsTruncated>true</IsTruncated>\
        <Part><PartNumber>1</PartNumber><ETag>&quot;e&quot;</ETag><Size>5242880</Size></Part></ListPartsResult>";
    let page = read::<ListParts>(body);
    assert_eq!(
        (page.items[0].etag.as_str(), page.items[0].size, page.next.as_deref()),
        ("\"e\"", 5_242_880, Some("1"))
    );
    refuse::<ListParts>(&[&body.replace("<PartNumber>1</PartNumber>", ""), &body.replace("5242880", "x")]);
    let body = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a b</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>\
        <Upload><Key>a b</Key><UploadId>u</UploadId><Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>";
    let page = read::<ListMultipartUploads>(body);
    let list = ListMultipartUploads {
        bucket: "b".to_owned(),
        prefix: String::new(),
        next: page.next,
    };
    let query: Vec<(String, String)> = list.request().query.split_off(2);
    assert_eq!(
        query,
        [
            ("key-marker".to_owned(), "a b".to_owned()),
            ("upload-id-marker".to_owned(), "u".to_owned())
        ]
    );
    let complete = CompleteMultipartUpload {
        location: Location::parse("s3://bucket/k").unwrap(),
        upload_id: "u".to_owned(),
        parts: vec![(1, "\"a<b\"".to_owned())],
    };
    let ask = complete.request();
    let expected = r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part><PartNumber>1</PartNumber><ETag>"a&lt;b"</ETag></Part></CompleteMultipartUpload>"#;
    assert_eq!(ask.body, expected);
    let part: Result<String, Unreadable> = UploadPart::answer(&with(&[]));
    assert!(part.is_err());
}
