//! The manifest of a version: which binaries there are, and what they are. Data only.

use serde_json::{Value, json};

/// The object's name.
pub(super) const NAME: &str = "manifest.json";

/// The version of the manifest's own shape.
const SHAPE: u64 = 1;

/// A version's binaries, by target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    version: String,
    binaries: Vec<Binary>,
}

/// One binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binary {
    /// `aarch64-unknown-linux-musl`.
    pub(super) target: String,
    /// EC2's name of the processor.
    pub(super) architecture: String,
    /// The object's name beside the manifest.
    pub(super) file: String,
    /// In bytes.
    pub(super) size: u64,
    /// In lower case hexadecimal.
    pub(super) sha256: String,
    /// What its `--version` says, with the git revision.
    pub(super) program: String,
}

impl Manifest {
    pub(super) fn of(version: &str, mut binaries: Vec<Binary>) -> Manifest {
        binaries.sort_by(|one, other| one.target.cmp(&other.target));
        Manifest {
            version: version.to_owned(),
            binaries,
        }
    }

    /// As it is written.
    pub(super) fn text(&self) -> String {
        let one = |binary: &Binary| {
            json!({
                "target": binary.target,
                "architecture": binary.architecture,
                "file": binary.file,
                "size": binary.size,
                "sha256": binary.sha256,
                "program": binary.program,
                "revision": revision(&binary.program),
            })
        };
        let binaries: Vec<Value> = self.binaries.iter().map(one).collect();
        format!(
            "{:#}\n",
            json!({"manifest": SHAPE, "version": self.version, "binaries": binaries})
        )
    }

    /// Reads what [`Manifest::text`] wrote. Fields that this version does not know are let go.
    pub(super) fn read(text: &[u8]) -> Result<Manifest, String> {
        let value: Value = serde_json::from_slice(text).map_err(|why| format!("it is not JSON: {why}"))?;
        if value["manifest"].as_u64() != Some(SHAPE) {
            return Err(format!(
                "it is no manifest of shape {SHAPE}, which is all that this version writes"
            ));
        }
        let one = |value: &Value| {
            let text = |key: &str| match value[key].as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(format!("a binary lacks {key:?}")),
            };
            Ok(Binary {
                target: text("target")?,
                architecture: text("architecture")?,
                file: text("file")?,
                size: value["size"].as_u64().ok_or("a binary lacks \"size\"")?,
                sha256: text("sha256")?,
                program: text("program")?,
            })
        };
        let binaries = value["binaries"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Manifest::of(
            value["version"].as_str().ok_or("it lacks \"version\"")?,
            binaries.iter().map(one).collect::<Result<Vec<Binary>, String>>()?,
        ))
    }

    /// With the other's binaries that it lacks. One that both have must be the same.
    pub(super) fn with(&self, other: &Manifest) -> Result<Manifest, String> {
        if self.version != other.version {
            return Err(format!("it is of version {}, not {}", self.version, other.version));
        }
        let mut binaries = self.binaries.clone();
        for binary in &other.binaries {
            match binaries.iter().find(|known| known.target == binary.target) {
                None => binaries.push(binary.clone()),
                Some(known) if known.sha256 == binary.sha256 => {}
                Some(known) => {
                    let target = &binary.target;
                    return Err(format!("it has {target} with sha256 {}, not {}", known.sha256, binary.sha256));
                }
            }
        }
        Ok(Manifest::of(&self.version, binaries))
    }
}

/// The git revision in `ephemwork 0.1.0 (0123456789ab, protocol 1)`.
fn revision(program: &str) -> Option<&str> {
    program.split_once('(')?.1.split([',', ')']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(target: &str, sha256: &str) -> Binary {
        Binary {
            target: target.to_owned(),
            architecture: "arm64".to_owned(),
            file: format!("ephemwork-{target}"),
            size: 3,
            sha256: sha256.to_owned(),
            program: "ephemwork 0.1.0 (0123456789ab, protocol 1)".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = Manifest::of("0.1.0", vec![binary("b", "2"), binary("a", "1")]);
        assert_eq!(Manifest::read(manifest.text().as_bytes()), Ok(manifest.clone()));
        assert!(
            manifest.text().contains(r#""revision": "0123456789ab""#),
            "{}",
            manifest.text()
        );
        for text in [
            "",
            "[]",
            "{}",
            r#"{"manifest": 2, "version": "1"}"#,
            r#"{"manifest": 1}"#,
            r#"{"manifest": 1, "version": "1", "binaries": [1]}"#,
        ] {
            assert!(Manifest::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_grows_and_never_changes() {
        let one = Manifest::of("0.1.0", vec![binary("a", "1")]);
        let other = Manifest::of("0.1.0", vec![binary("b", "2")]);
        let both = one.with(&other).unwrap();
        assert_eq!(both, other.with(&one).unwrap());
        assert_eq!(both.with(&one), Ok(both.clone()));
        assert!(
            both.with(&Manifest::of("0.1.0", vec![binary("a", "3")]))
                .unwrap_err()
                .contains("sha256 1, not 3")
        );
        assert!(both.with(&Manifest::of("0.2.0", Vec::new())).is_err());
    }

    #[test]
    fn revisions() {
        assert_eq!(revision("ephemwork 0.1.0 (0123456789ab, protocol 1)"), Some("0123456789ab"));
        assert_eq!(revision("ephemwork 0.1.0"), None);
    }
}
