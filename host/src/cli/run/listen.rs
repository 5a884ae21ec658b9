//! The one API of the pipelines that run in this process.

use crate::api::Settings;
use crate::error::Error;
use crate::pipeline::Prepared;

/// What the pipelines' `api` sections come to, if there are any; what they contradict each other in is an error.
pub(super) fn agree(prepared: &[Prepared]) -> Result<Option<Settings>, Vec<Error>> {
    let mut sections = prepared.iter().filter_map(|one| Some((one, one.api()?)));
    let Some((first, settings)) = sections.next() else {
        return Ok(None);
    };
    let mut errors = Vec::new();
    let token_of = |one: &Prepared| one.api_config().and_then(|api| api.token.clone());
    for (other, others) in sections {
        if others.address != settings.address || token_of(other) != token_of(first) {
            let what = "the API of this process would have two addresses or tokens";
            errors.push(
                Error::config(what)
                    .at(&settings.place)
                    .at(&others.place)
                    .help("pipelines that run together share one: write `api` alike, or in one"),
            );
        }
    }
    for (index, one) in prepared.iter().enumerate() {
        let clash = prepared[..index]
            .iter()
            .find(|other| other.name() == one.name());
        if let Some(other) = clash {
            let what = format!("two pipelines are called `{}`", one.name());
            errors.push(
                Error::config(what)
                    .at(format!("{} and {}", other.file(), one.file()))
                    .help("the API could not tell them apart: rename one file"),
            );
        }
    }
    if errors.is_empty() {
        Ok(Some(settings.clone()))
    } else {
        Err(errors)
    }
}
