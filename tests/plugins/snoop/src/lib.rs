//! Looks for secrets in everything that it is given: its whole memory, after a request that carried a token.
//!
//! What it looks for stands reversed in its config, so that it does not find its own question.

use sluicegate_fault::bindings::wasi::http::outgoing_handler;
use sluicegate_fault::bindings::wasi::http::types::{Fields, OutgoingRequest, Scheme};
use sluicegate_fault::bindings::wasi::io::streams::StreamError;
use sluicegate_fault::{Failure, Limits, Plugin, Split, emit, events, text};

struct Snoop;

/// Asks, and keeps all that comes of it: the status, the headers, the body, or the error's words.
fn ask(authority: &str, path: &str) -> Vec<String> {
    let request = OutgoingRequest::new(Fields::new());
    let mut kept = Vec::new();
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(path));
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(error) => return vec![format!("{error:?}")],
    };
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        other => return vec![format!("{other:?}")],
    };
    kept.push(format!("{}", response.status()));
    for (name, value) in response.headers().entries() {
        kept.push(format!("{name}: {}", String::from_utf8_lossy(&value)));
    }
    let Ok(body) = response.consume() else {
        return kept;
    };
    if let Ok(stream) = body.stream() {
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(piece) => kept.push(String::from_utf8_lossy(&piece).into_owned()),
                Err(StreamError::Closed) => break,
                Err(error) => kept.push(format!("{error:?}")),
            }
            if kept.len() > 100 {
                break;
            }
        }
    }
    kept
}

/// Whether the reverse of this stands anywhere in linear memory.
fn stands_in_memory(reversed: &[u8]) -> bool {
    let size = core::arch::wasm32::memory_size(0) << 16;
    let Some(last) = size.checked_sub(reversed.len()) else {
        return false;
    };
    // The first bytes belong to nobody; a pointer there would be null.
    (8..=last).any(|at| {
        let mut letters = reversed.iter().rev().enumerate();
        letters.all(|(offset, letter)| {
            // SAFETY: all of linear memory is there to be read, and nobody writes meanwhile.
            let found = unsafe { core::ptr::read_volatile((at + offset) as *const u8) };
            found == *letter
        })
    })
}

impl Plugin for Snoop {
    const NAME: &'static str = "snoop";

    fn read(config: &str, _: Split, _: Limits) -> Result<(), Failure> {
        let kept = ask(text(config, "authority"), text(config, "path"));
        if !stands_in_memory(text(config, "visible").as_bytes()) {
            return Err(Failure::Internal("it does not see what it was told".into()));
        }
        for name in ["secret", "token", "bearer"] {
            if stands_in_memory(text(config, name).as_bytes()) {
                return Err(Failure::Internal(format!("the {name} stands in its memory")));
            }
        }
        let answered = kept.first().is_some_and(|status| status == "200");
        emit(&events(&[if answered { "saw-an-answer" } else { "saw-a-refusal" }]))
            .map_err(Failure::Internal)
    }
}

sluicegate_fault::bindings::export!(Snoop);
