//! diff: what applying, or deleting, files would do.

use anyhow::Result;
use tortie_kit::address::Target;

use crate::apply::{self, Verb};
use crate::cli::{DiffArgs, TextFormat};
use crate::foretell::{self, Foretold, foretell};
use crate::output::{Progress, Silent, say};
use crate::source;
use crate::store::{Snapshot, connect};

/// `tortiectl diff`.
pub(crate) async fn diff(typha: Option<Target>, args: &DiffArgs) -> Result<()> {
    let manifests = source::read(&args.source)?;
    let store = connect(typha)?;
    let (before, after) = if args.delete {
        let before = Snapshot::load(
            &store,
            foretell::prefixes().into_iter().chain(apply::prefixes(&manifests)),
        )
        .await?;
        let mut after = before.clone();
        manifests.iter().for_each(|m| after.remove(&m.key));
        (before, after)
    } else {
        let planned = apply::plan_all(&store, Verb::Apply, &manifests, foretell::prefixes()).await?;
        (planned.before, planned.after)
    };
    let foretold = told(&before, &after);
    show(&foretold, args.output)?;
    if foretold.is_empty() {
        Ok(())
    } else {
        Err(Silent.into())
    }
}

/// What the step does; on a terminal, how far the computation is.
pub(crate) fn told(before: &Snapshot, after: &Snapshot) -> Foretold {
    let progress = Progress::new("computing nodes");
    foretell(before, after, &mut |done, all| progress.show(done, all))
}

fn show(foretold: &Foretold, output: TextFormat) -> Result<()> {
    match output {
        TextFormat::Json => say(&format!("{:#}", serde_json::to_value(foretold)?)),
        TextFormat::Text if foretold.is_empty() => Ok(()),
        TextFormat::Text => say(&foretold.text()),
    }
}
