//! Which file of a directory has which tenant, when two name the same.
//!
//! A file that runs a tenant keeps it; of those that come new the first by name gets it. Who gets nothing goes on with
//! what it ran before, while nobody else has that.

use std::collections::BTreeMap;

/// What a file offers: tenants by the keys of their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// What runs as it said.
    pub good: Option<String>,
    /// What it says now, when that is something else.
    pub next: Option<String>,
}

/// Which version of a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The one that runs.
    Good,
    /// The new one.
    Next,
}

/// By names of files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// Whose tenants run.
    pub held: BTreeMap<String, Claim>,
    /// Whose new version has to wait, and for which file.
    pub refused: BTreeMap<String, String>,
}

/// Settles it.
pub(super) fn settle(files: &BTreeMap<String, Choice>) -> Claims {
    let mut claims = Claims::default();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let stays = |choice: &Choice| match (&choice.good, &choice.next) {
        (Some(good), Some(next)) => good == next,
        (good, next) => good.is_some() && next.is_none(),
    };
    for (name, choice) in files.iter().filter(|(_, choice)| stays(choice)) {
        if let Some(id) = &choice.good {
            owners.insert(id, name);
            let claim = choice.next.as_ref().map_or(Claim::Good, |_| Claim::Next);
            claims.held.insert(name.clone(), claim);
        }
    }
    for (name, choice) in files.iter().filter(|(_, choice)| !stays(choice)) {
        let Some(next) = &choice.next else { continue };
        let Some(owner) = owners.get(&**next) else {
            owners.insert(next, name);
            claims.held.insert(name.clone(), Claim::Next);
            continue;
        };
        claims.refused.insert(name.clone(), (*owner).to_owned());
        if let Some(good) = &choice.good
            && !owners.contains_key(&**good)
        {
            owners.insert(good, name);
            claims.held.insert(name.clone(), Claim::Good);
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as `name: runs>says`; either may be left out.
    #[track_caller]
    fn check(files: &[(&str, &str)], held: &[(&str, Claim)], refused: &[(&str, &str)]) {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let choice = |(name, text): &(&str, &str)| {
            let (good, next) = text.split_once('>').unwrap_or((text, ""));
            let (good, next) = (part(good), part(next));
            ((*name).to_owned(), Choice { good, next })
        };
        let found = settle(&files.iter().map(choice).collect());
        let owned = |(name, by): &(&str, &str)| ((*name).to_owned(), (*by).to_owned());
        let expected = Claims {
            held: held.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect(),
            refused: refused.iter().map(owned).collect(),
        };
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn every_tenant_has_one_file() {
        use Claim::{Good, Next};
        check(&[], &[], &[]);
        check(&[("1", ""), ("2", "b")], &[("2", Good)], &[]);
        check(
            &[("1", "a>a"), ("2", ">b")],
            &[("1", Next), ("2", Next)],
            &[],
        );
    }

    #[test]
    fn who_runs_a_tenant_keeps_it() {
        use Claim::{Good, Next};
        check(&[("1", ">a"), ("2", "a")], &[("2", Good)], &[("1", "2")]);
        check(&[("1", ">a"), ("2", "a>a")], &[("2", Next)], &[("1", "2")]);
        check(&[("1", ">a"), ("2", ">a")], &[("1", Next)], &[("2", "1")]);
        check(
            &[("1", "a>b"), ("2", "b")],
            &[("1", Good), ("2", Good)],
            &[("1", "2")],
        );
    }

    #[test]
    fn tenants_may_change_their_files() {
        use Claim::Next;
        check(
            &[("1", "a>b"), ("2", "b>a")],
            &[("1", Next), ("2", Next)],
            &[],
        );
        check(
            &[("1", "a>b"), ("2", ">a")],
            &[("1", Next), ("2", Next)],
            &[],
        );
        check(&[("2", ">a")], &[("2", Next)], &[]);
    }

    #[test]
    fn what_another_file_has_by_now_is_not_gone_back_to() {
        use Claim::{Good, Next};
        check(
            &[("1", ">a"), ("2", "a>b"), ("3", "b")],
            &[("1", Next), ("3", Good)],
            &[("2", "3")],
        );
    }
}
