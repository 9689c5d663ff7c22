//! Diagnosis: the checks of `rorqual doctor`, a bundle for bug reports, and levels of reset.

mod bundle;
mod plans;
mod redact;
mod reset;

use std::sync::Arc;

pub(super) use bundle::bundle;
pub(super) use plans::reset_plans;
pub(super) use reset::reset;

use super::{
    Inner,
    contract::{Check, Empty, Failure, Verdict},
};
use rorqual_engine::{api, doctor};

pub(super) async fn checks(inner: &Arc<Inner>, _: Empty) -> Result<Vec<Check>, Failure> {
    Ok(examine(inner).await)
}

/// Runs every check: in the daemon, which starts the machines; without a daemon, in this process.
async fn examine(inner: &Inner) -> Vec<Check> {
    let answer = match inner.daemon().await {
        Ok(mut client) => client.doctor(api::DoctorRequest {}).await.ok(),
        Err(_) => None,
    };
    let checks = match answer {
        Some(reply) => reply.into_inner().checks,
        None => doctor::examine(&inner.home).await,
    };
    checks.into_iter().map(check).collect()
}

fn check(check: api::Check) -> Check {
    let verdict = match check.verdict() {
        api::check::Verdict::Ok => Verdict::Ok,
        api::check::Verdict::Note => Verdict::Note,
        api::check::Verdict::Problem | api::check::Verdict::Unspecified => Verdict::Problem,
    };
    Check { id: check.id, verdict, finding: check.finding, fix: check.fix }
}
