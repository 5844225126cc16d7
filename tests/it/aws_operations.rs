//! Every operation of `ephemwork::aws` once or more against the checked account: AWS's models take each request, and each answer is
//! read for what was done.

mod balancing;
mod instances;
mod network;
mod rights;
mod storage;

use ephemwork::aws::{Aws, Call, Failure, Place, Tags};
use serde_json::Value;

use crate::support::aws::AwsWorld;
use crate::support::library::{host, run};

/// A caller in the world's account, and ids of its staging environment.
struct Story<'w> {
    aws: Aws,
    world: &'w AwsWorld,
    staging: &'w Value,
}

impl Story<'_> {
    async fn call<C: Call>(&self, call: C) -> C::Answer {
        self.aws.call(&call).await.unwrap_or_else(|why| panic!("{why}"))
    }

    async fn refused<C: Call>(&self, call: C) -> Failure {
        match self.aws.call(&call).await {
            Ok(_) => panic!("{} was not refused", C::ACTION),
            Err(why) => why,
        }
    }

    fn id(&self, name: &str) -> String {
        self.staging[name].as_str().unwrap().to_owned()
    }
}

fn tags() -> Tags {
    Tags::from([
        ("ManagedBy".to_owned(), "ephemwork".to_owned()),
        ("ephemwork:project".to_owned(), "shop".to_owned()),
    ])
}

/// Runs a story against a world with a staging environment.
#[track_caller]
fn tell(story: impl AsyncFnOnce(Story<'_>)) {
    let Some((world, staging)) = AwsWorld::with_staging() else {
        return;
    };
    let host = host(&world.environment());
    run(async {
        let aws = Aws::open(&host, &Place::default()).await.unwrap();
        let world = &world;
        story(Story {
            aws,
            world,
            staging: &staging,
        })
        .await;
    });
}
