//! Parameters and objects.

use bytes::Bytes;
use ephemwork::aws::{
    s3::{self, Location},
    ssm,
};

use super::{tags, tell};

#[test]
fn parameters() {
    tell(async |at| {
        let name = |index: usize| format!("/ephemwork/shop/host-key-{index}");
        let put = |index: usize, existing: ssm::Existing, value: &str| ssm::PutParameter {
            name: name(index),
            value: value.to_owned(),
            kind: ssm::ParameterKind::SecureString,
            description: "The bastion's host key".to_owned(),
            existing,
        };
        for index in 0..25 {
            let version = at.call(put(index, ssm::Existing::Refused(tags()), "one")).await;
            assert_eq!(version, 1);
        }
        let taken = at.refused(put(3, ssm::Existing::Refused(tags()), "two")).await;
        assert_eq!(taken.code(), Some("ParameterAlreadyExists"));
        assert_eq!(at.call(put(3, ssm::Existing::Replaced, "two")).await, 2);
        let found = at.call(ssm::GetParameter { name: name(3) }).await;
        assert_eq!((found.value.as_str(), found.version), ("two", 2));
        assert!(!format!("{found:?}").contains("two"), "a secret in a log");
        let all = ssm::GetParametersByPath {
            path: "/ephemwork/shop".to_owned(),
            next: None,
        };
        assert_eq!(at.aws.all(&all).await.unwrap().len(), 25);
        at.call(ssm::DeleteParameter { name: name(3) }).await;
        assert!(at.refused(ssm::GetParameter { name: name(3) }).await.is_missing());
    });
}

#[test]
fn objects() {
    tell(async |at| {
        let location = Location {
            bucket: at.id("bucket"),
            key: at.id("key"),
        };
        assert_eq!(Location::parse(&at.id("uri")), Some(location.clone()));
        let head = at
            .call(s3::HeadObject {
                location: location.clone(),
            })
            .await;
        assert_eq!((head.size, &head.metadata["sha256"]), (Some(8), &at.id("sha256")));
        assert_eq!(head.metadata["architecture"], "arm64");
        let get = s3::GetObject {
            location: location.clone(),
            range: None,
            if_match: head.etag.clone(),
        };
        let object = at.call(get.clone()).await;
        assert_eq!((object.body.as_ref(), object.head.etag), (b"a binary".as_slice(), head.etag));
        let part = at
            .call(s3::GetObject {
                range: Some((2, 100)),
                ..get
            })
            .await;
        assert_eq!((part.body.as_ref(), part.whole), (b"binary".as_slice(), Some(8)));

        let odd = Location {
            bucket: at.id("bucket"),
            key: "a b/ü+~(1)*/%41".to_owned(),
        };
        let put = s3::PutObject {
            location: odd.clone(),
            body: Bytes::from_static(b"{}"),
            content_type: "application/json",
            metadata: [("sha256".to_owned(), "0123".to_owned())].into(),
            over: s3::Over::Nothing,
        };
        let etag = at.call(put.clone()).await.unwrap();
        assert_eq!(at.refused(put.clone()).await.code(), Some("PreconditionFailed"));
        let over = |etag: String| s3::PutObject {
            over: s3::Over::Etag(etag),
            ..put.clone()
        };
        at.call(over(etag)).await;
        let head = at.call(s3::HeadObject { location: odd.clone() }).await;
        assert_eq!((head.size, head.metadata["sha256"].as_str()), (Some(2), "0123"));
        let missing = s3::HeadObject {
            location: Location {
                key: "not/there".to_owned(),
                ..odd
            },
        };
        assert!(at.refused(missing).await.is_missing());
    });
}

#[test]
fn uploads_in_parts() {
    tell(async |at| {
        let location = Location {
            bucket: at.id("bucket"),
            key: "large/file".to_owned(),
        };
        let begin = s3::CreateMultipartUpload {
            location: location.clone(),
            content_type: "application/octet-stream",
            metadata: [("sha256".to_owned(), "0123".to_owned())].into(),
        };
        let upload_id = at.call(begin.clone()).await;
        let part = |number: u32, size: usize| s3::UploadPart {
            location: location.clone(),
            upload_id: upload_id.clone(),
            number,
            body: Bytes::from(vec![number as u8; size]),
        };
        // The least that S3 takes of a part that is not the last.
        const PART: usize = 5 * 1024 * 1024;
        let first = at.call(part(1, PART)).await;
        let second = at.call(part(2, 17)).await;
        let list = s3::ListMultipartUploads {
            bucket: at.id("bucket"),
            prefix: "large/".to_owned(),
            next: None,
        };
        let uploads = at.aws.all(&list).await.unwrap();
        assert_eq!(
            (uploads.len(), &uploads[0].id, uploads[0].key.as_str()),
            (1, &upload_id, "large/file")
        );
        assert!(uploads[0].begun.is_some());
        let parts = s3::ListParts {
            location: location.clone(),
            upload_id: upload_id.clone(),
            next: None,
        };
        let parts = at.aws.all(&parts).await.unwrap();
        let numbers: Vec<(u32, u64)> = parts.iter().map(|part| (part.number, part.size)).collect();
        assert_eq!(numbers, [(1, PART as u64), (2, 17)]);
        assert_eq!((&parts[0].etag, &parts[1].etag), (&first, &second));
        at.call(s3::CompleteMultipartUpload {
            location: location.clone(),
            upload_id,
            parts: vec![(1, first), (2, second)],
        })
        .await;
        let head = at
            .call(s3::HeadObject {
                location: location.clone(),
            })
            .await;
        assert_eq!(
            (head.size, head.metadata["sha256"].as_str()),
            (Some(PART as u64 + 17), "0123")
        );

        let upload_id = at.call(begin).await;
        at.call(s3::AbortMultipartUpload { location, upload_id }).await;
        assert!(at.aws.all(&list).await.unwrap().is_empty());
    });
}
