//! `rekindle new`: what [`rekindle_new`] makes, told as all commands tell.

use rekindle_new::{Made, NewArgs, Problem, make};
use serde_json::json;

use super::context::Context;
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &Context, args: &NewArgs) -> Result<Exit, Failure> {
    let made = make(args).map_err(|problem| {
        let exit = match &problem {
            Problem::Refused(_) => Exit::Usage,
            Problem::File { .. } => Exit::Failed,
        };
        Failure::new(exit, problem.to_string())
    })?;
    let Made { name, template, dir, files } = &made;
    let value = json!({
        "name": name,
        "template": template.word(),
        "path": dir.display().to_string(),
        "files": files,
    });
    context.answer(&value, || made.words())?;
    Ok(Exit::Done)
}
