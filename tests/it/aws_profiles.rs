//! Profiles whose keys are those of the environment.

use ephemwork::aws::Place;
use ephemwork::error::Exit;
use serde_json::json;

use crate::aws_client::{configured, named, who};
use crate::support::aws::{ACCESS_KEY, AwsWorld, REGION};

/// A role whose keys are those of the environment, as CI systems have it.
#[test]
fn a_profiles_role_is_assumed_with_the_environments_keys() {
    let Some(world) = AwsWorld::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let trust = json!({"Version": "2012-10-17", "Statement": []}).to_string();
    world.aws(
        "iam",
        "CreateRole",
        json!({"RoleName": "deployer", "AssumeRolePolicyDocument": trust}),
    );
    let config = format!(
        "[profile ci]\nrole_arn = arn:aws:iam::123456789012:role/deployer\ncredential_source = Environment\n\
         role_session_name = nightly\nexternal_id = shop\nduration_seconds = 1800\nregion = {REGION}\n\
         [profile half]\ncredential_source = Environment\nregion = {REGION}\n"
    );
    let mut environment = configured(home.path(), &config);
    environment.push(("AWS_ENDPOINT_URL", world.url()));
    let error = who(&environment, &named("ci")).unwrap_err();
    let what = "AWS profile ci takes its keys from the environment, which has none";
    assert_eq!((error.exit, error.what.as_str()), (Exit::Credentials, what), "{error}");
    environment.push(("AWS_ACCESS_KEY_ID", ACCESS_KEY.0.to_owned()));
    environment.push(("AWS_SECRET_ACCESS_KEY", ACCESS_KEY.1.to_owned()));
    let error = who(&environment, &named("half")).unwrap_err();
    assert_eq!(
        (error.exit, error.what.as_str()),
        (Exit::Credentials, "AWS profile half has a credential_source and no role_arn")
    );
    let found = who(&environment, &named("ci")).unwrap();
    assert_eq!(found.arn, "arn:aws:sts::123456789012:assumed-role/deployer/nightly");
    let asked = world.calls().into_iter().find(|call| call.name == "sts:AssumeRole").unwrap();
    assert_eq!(
        (&asked.params["ExternalId"], &asked.params["DurationSeconds"]),
        (&json!("shop"), &json!(1800))
    );
    // AWS_PROFILE counts less than keys in the environment, for aws-cli too: they are used as they are.
    environment.push(("AWS_PROFILE", "ci".to_owned()));
    assert_eq!(
        who(&environment, &Place::default()).unwrap().arn,
        "arn:aws:iam::123456789012:user/moto"
    );
}
