//! stub

/// A place for config's own type of the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagingUrl {
    pub url: String,
}

impl StagingUrl {
    /// Takes an origin.
    pub fn parse(text: &str) -> Result<StagingUrl, String> {
        Ok(StagingUrl { url: text.to_owned() })
    }
}

impl std::fmt::Display for StagingUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}
