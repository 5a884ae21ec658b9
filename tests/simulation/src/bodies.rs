//! What events have to look like: the service's own records, mapped by the native build of the mapping.

use sluicegate_ecs::{Mapper, Options};

use crate::judge::{Pair, lines, pair, refused};
use crate::oracle::read;
use crate::world::World;

/// Every body in the file, in the store and among its dead letters has to be one of those that the record has.
pub fn check(world: &World) {
    let mut mapper = Mapper::new(Options::default());
    let file = read(&world.events_file());
    for line in lines(&file) {
        if let Ok(pair) = pair(line) {
            compare(world, &mut mapper, "file", &pair, line);
        }
    }
    for (pair, body) in refused(world) {
        compare(world, &mut mapper, "dead letters", &pair, body.as_bytes());
    }
    let documents = world.documents();
    for document in documents.values() {
        let pair = (document.tenant.clone(), document.event.clone());
        compare(world, &mut mapper, "documents", &pair, &document.body);
    }
}

fn compare(world: &World, mapper: &mut Mapper, place: &str, (tenant, id): &Pair, body: &[u8]) {
    let office = world.office();
    let oracle = office.oracle(world.clock.true_ms());
    // What was never issued is told elsewhere.
    let Some((arrived_ms, forms)) = oracle.issued(tenant, id) else {
        return;
    };
    mapper.set_arrival_ms(arrived_ms);
    let mut mapped = Vec::new();
    let same = forms.iter().any(|form| {
        mapped.clear();
        mapper.map(form, &mut mapped).is_ok() && mapped == body
    });
    if !same {
        let (body, mapped) = (
            String::from_utf8_lossy(body),
            String::from_utf8_lossy(&mapped),
        );
        let what = format!("{place}: {tenant} {id} is not what was issued: {body}, not {mapped}");
        world.witness.broken("I4", what);
    }
}
