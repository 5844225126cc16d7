//! The role, its policies and the instance profile.

use super::super::documents::same;
use super::super::step::Step;
use super::{Planner, missing};

impl Planner<'_> {
    pub(super) fn identity(&mut self) {
        let (desired, observed) = (self.desired, self.observed);
        let names = &desired.facts.names;
        let role = names.role.clone();
        let found = observed.role.clone().unwrap_or_default();
        if observed.role.is_none() {
            self.step(Step::CreateRole {
                role: role.clone(),
                trust: desired.trust.clone(),
                tags: desired.tags.clone(),
            });
        } else {
            if !same(&found.trust, &desired.trust) {
                let trust = desired.trust.clone();
                self.step(Step::SetTrust {
                    role: role.clone(),
                    trust,
                });
            }
            if let Some(tags) = missing(&desired.tags, &found.tags) {
                self.step(Step::TagRole {
                    role: role.clone(),
                    tags,
                });
            }
        }
        if !found.attached.contains(&desired.managed_policy) {
            let policy = desired.managed_policy.clone();
            self.step(Step::AttachPolicy {
                role: role.clone(),
                policy,
            });
        }
        for policy in found.attached.iter().filter(|policy| **policy != desired.managed_policy) {
            let policy = policy.clone();
            self.step(Step::DetachPolicy {
                role: role.clone(),
                policy,
            });
        }
        if found
            .inline
            .get(&names.policy)
            .is_none_or(|policy| !same(policy, &desired.policy))
        {
            self.step(Step::PutPolicy {
                role: role.clone(),
                policy: names.policy.clone(),
                document: desired.policy.clone(),
            });
        }
        for policy in found.inline.keys().filter(|policy| **policy != names.policy) {
            let policy = policy.clone();
            self.step(Step::DeletePolicy {
                role: role.clone(),
                policy,
            });
        }
        self.profile(&role);
    }

    fn profile(&mut self, role: &str) {
        let profile = role.to_owned();
        let found = self.observed.profile.clone();
        match &found {
            None => self.step(Step::CreateProfile {
                profile: profile.clone(),
                tags: self.desired.tags.clone(),
            }),
            Some(found) => {
                if let Some(tags) = missing(&self.desired.tags, &found.tags) {
                    let profile = profile.clone();
                    self.step(Step::TagProfile { profile, tags });
                }
            }
        }
        let roles = found.map(|found| found.roles).unwrap_or_default();
        for other in roles.iter().filter(|other| *other != role) {
            self.step(Step::RemoveRole {
                profile: profile.clone(),
                role: other.clone(),
            });
        }
        if !roles.iter().any(|one| one == role) {
            let role = role.to_owned();
            self.step(Step::AddRole { profile, role });
        }
    }
}
