//! `rekindle doctor`: prints what was found, worst last.

use serde_json::json;

use super::context::{Context, block_on};
use crate::doctor::{self, Finding, Level};
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let mut findings = block_on(async { Ok(doctor::examine(&context.config).await) })?;
    findings.sort_by_key(|finding| finding.level);
    let worst = findings.last().map_or(Level::Ok, |finding| finding.level);
    context.answer(&json!({ "worst": worst, "findings": findings }), || words(&findings))?;
    Ok(if worst == Level::Fail { Exit::Broken } else { Exit::Done })
}

fn words(findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        lines.push(format!("{level:<5} {:<12} {}", finding.check, finding.found));
        lines.extend(finding.fix.iter().map(|fix| format!("      {:<12} -> {fix}", "")));
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    lines.push(format!(
        "{} ok, {} to look at, {} that will hurt",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    ));
    lines
}
