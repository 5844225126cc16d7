//! STS: who the caller is.

use super::call::{Ask, Call, Reply, Service, Unreadable};
use super::date;
use super::query::Form;
use super::xml;

const VERSION: &str = "2011-06-15";

/// Needs no right at all.
#[derive(Clone, Debug, Default)]
pub struct GetCallerIdentity;

/// Who signs the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// `arn:aws:sts::123456789012:assumed-role/Developer/alice`.
    pub arn: String,
    /// The unique id: `AROA...:alice`.
    pub user_id: String,
    /// What AWS's clock showed when it answered, in seconds since the epoch; without the answer's Date none.
    pub date: Option<u64>,
}

impl Call for GetCallerIdentity {
    type Answer = Identity;
    const SERVICE: Service = Service::Sts;
    const ACTION: &'static str = "sts:GetCallerIdentity";

    fn request(&self) -> Ask {
        Form::new("GetCallerIdentity", VERSION).ask()
    }

    fn answer(reply: &Reply) -> Result<Identity, Unreadable> {
        let date = reply
            .headers
            .get("date")
            .and_then(|value| date::seconds(value.to_str().ok()?));
        xml::read(&reply.body, |root| {
            let result = root.need("GetCallerIdentityResult")?;
            Ok(Identity {
                account: result.need_text("Account")?,
                arn: result.need_text("Arn")?,
                user_id: result.need_text("UserId")?,
                date,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::{read, refuse};
    use super::*;

    #[test]
    fn who() {
        let body = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
            <Arn>arn:aws:sts::123456789012:assumed-role/Developer/alice</Arn><UserId>AROA:alice</UserId><Account>123456789012</Account>
            </GetCallerIdentityResult></GetCallerIdentityResponse>"#;
        assert_eq!(read::<GetCallerIdentity>(body).account, "123456789012");
        refuse::<GetCallerIdentity>(&["", "<a/>", &body.replace("Account>", "A>")]);
    }
}
