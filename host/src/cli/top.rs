//! `sluicegate top`: how a running collector is, again and again: tenants, streams, lag, rates, backlog, errors.
//!
//! Everything is read from its API (`/status`, and errors from `/metrics`). Where standard output is no terminal it is
//! one plain table.

mod draw;
mod sample;
mod state;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::ask::{Collector, Target};
use super::{Done, print};
use crate::config::unit::Period;
use crate::error::{Error, Kind};
use crate::secret::Redactor;
use sample::Sample;
use state::{Key, State};

/// How often the keyboard's thread looks whether it is still wanted.
const KEYS: Duration = Duration::from_millis(200);

/// The collector asks its ledgers for every answer; more often than this says nothing new.
const SHORTEST: Duration = Duration::from_millis(200);

/// Show how a running collector is, again and again. It needs the collector's API: `api: {}` in its file.
///
/// Keys: `q` ends, `s` sorts by the next column, `r` turns the order round, `/` filters by text, arrows move.
#[derive(Args)]
pub(super) struct Top {
    /// How often to look.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: String,
    #[command(flatten)]
    target: Target,
}

impl Top {
    pub async fn run(self, redactor: Arc<Redactor>) -> Done {
        let interval = Period::parse(&self.interval).ok_or_else(|| {
            let what = format!("`{}` is not a time", self.interval);
            vec![Error::new(Kind::Usage, what).help("write it like `500ms` or `5s`")]
        })?;
        let interval = interval.0.max(SHORTEST);
        let collector = self.target.collector(&redactor)?;
        // Whatever keeps it from being asked is said before the screen is taken.
        let first = Sample::take(&collector)
            .await
            .map_err(|error| vec![error])?;
        let mut state = State::new(collector.address());
        state.update(first);
        if io::stdout().is_terminal() {
            return live(&collector, state, interval).await;
        }
        // Rates need a second look.
        tokio::time::sleep(interval).await;
        state.update(
            Sample::take(&collector)
                .await
                .map_err(|error| vec![error])?,
        );
        print(state.table())
    }
}

async fn live(collector: &Collector, mut state: State, interval: Duration) -> Done {
    let mut terminal = ratatui::try_init().map_err(|error| vec![unusable(&error)])?;
    let (sender, mut keys) = mpsc::channel(16);
    let keyboard = std::thread::spawn(move || read_keys(&sender));
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| draw::draw(frame, &state)) {
            break Err(vec![unusable(&error)]);
        }
        tokio::select! {
            _ = ticks.tick() => match Sample::take(collector).await {
                Ok(sample) => state.update(sample),
                Err(error) => state.lose(&error),
            },
            key = keys.recv() => {
                if key.is_none_or(|key| state.press(key)) {
                    break Ok(0);
                }
            }
        }
    };
    drop(keys);
    ratatui::restore();
    // It notices within `KEYS` that nobody listens any more.
    let _ = keyboard.join();
    ended
}

fn unusable(error: &io::Error) -> Error {
    Error::unavailable(format!("the terminal cannot be used: {error}"))
        .help("`sluicegate top | cat` prints one table")
}

/// Hands keys over until nobody wants them.
fn read_keys(keys: &mpsc::Sender<Key>) {
    while !keys.is_closed() {
        match event::poll(KEYS) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => return,
        }
        let key = match event::read() {
            Ok(Event::Key(key)) => of_terminal(key),
            // It is drawn anew.
            Ok(Event::Resize(..)) => Some(Key::Other),
            Ok(_) => None,
            Err(_) => return,
        };
        if let Some(key) = key
            && keys.blocking_send(key).is_err()
        {
            return;
        }
    }
}

fn of_terminal(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up(1),
        KeyCode::Down => Key::Down(1),
        KeyCode::PageUp => Key::Up(20),
        KeyCode::PageDown => Key::Down(20),
        _ => Key::Other,
    })
}
