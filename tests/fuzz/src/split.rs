//! Any bytes in any chunks: the same items as in one piece, none of them invented.

use sluicegate_records::{Item, Limits, Malformed, Reason, Splitter, Stop};

/// What came out, owned.
#[derive(Debug, PartialEq)]
enum Got {
    Record(Vec<u8>),
    Recovered(Vec<u8>),
    Bad(Vec<u8>, u64, Reason),
}

/// See the head of the file.
pub fn check(data: &[u8]) {
    // How to cut stands behind the input, so that a file with records is a good seed.
    let Some((choice, input)) = data.split_last() else {
        return;
    };
    let small = choice & 2 == 2;
    let limits = Limits {
        salvage: choice & 1 == 1,
        element_bytes: if small {
            64
        } else {
            Limits::default().element_bytes
        },
    };
    let size = usize::from(choice >> 2) + 1;
    let whole = split(limits, std::iter::once(input));
    let cut = split(limits, input.chunks(size));
    for item in whole.0.iter().chain(&cut.0) {
        if let Got::Record(record) | Got::Recovered(record) = item {
            assert!(
                record.starts_with(b"{") && record.ends_with(b"}"),
                "one object"
            );
            assert!(record.len() <= limits.element_bytes, "within the limit");
            assert!(
                input.windows(record.len()).any(|part| part == record),
                "bytes of the input"
            );
        }
    }
    // Damage behind the limit on one record is met before or after the limit, as the cut has it.
    if !small {
        assert_eq!(whole, cut, "the same in chunks of {size}");
    }
}

fn split<'a>(
    limits: Limits,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Got>, Result<(), Malformed>) {
    let mut got = Vec::new();
    let mut each = |item: Item<'_>| -> Result<(), std::convert::Infallible> {
        got.push(match item {
            Item::Record(bytes) => Got::Record(bytes.to_vec()),
            Item::Recovered(bytes) => Got::Recovered(bytes.to_vec()),
            Item::Bad {
                bytes,
                offset,
                reason,
            } => Got::Bad(bytes.to_vec(), offset, reason),
        });
        Ok(())
    };
    let mut splitter = Splitter::new(limits);
    let mut end = Ok(());
    for chunk in chunks {
        end = end.and_then(|()| splitter.push(chunk, &mut each));
    }
    let end = end.and_then(|()| splitter.finish(&mut each));
    let end = end.map_err(|stop| match stop {
        Stop::Malformed(malformed) => malformed,
        Stop::Caller(never) => match never {},
    });
    (got, end)
}
