//! Puts the state on the screen; it looks at nothing else.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row as Cells, Table};

use super::state::{COLUMNS, Row, SINK_COLUMNS, SinkRow, State};

/// Most lines for sinks, with their frame.
const SINK_LINES: u16 = 10;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let sinks = u16::try_from(state.sinks.len()).unwrap_or(u16::MAX);
    let sinks = sinks.saturating_add(3).min(SINK_LINES);
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(5),
        Constraint::Length(sinks),
        Constraint::Length(1),
    ]);
    let [head, streams, below, foot] = areas.areas(frame.area());
    frame.render_widget(head_of(state), head);
    draw_streams(frame, state, streams);
    draw_sinks(frame, state, below);
    frame.render_widget(foot_of(state), foot);
}

fn head_of(state: &State) -> Paragraph<'static> {
    let status = &state.status;
    let memory = status
        .memory_bytes
        .map_or_else(String::new, |bytes| format!(", {} MiB", bytes >> 20));
    let (held, limit) = status
        .pipelines
        .iter()
        .fold((0, 0), |(held, limit), pipeline| {
            (
                held + pipeline.buffer.bytes,
                limit + pipeline.buffer.limit_bytes,
            )
        });
    let first = format!(
        "sluicegate {} at {}, since {}{memory}",
        status.version, state.address, status.started
    );
    let second = format!(
        "{} pipeline(s), {:.1} events/s, buffer {} of {} MiB",
        status.pipelines.len(),
        state.rate(),
        held >> 20,
        limit >> 20
    );
    let bold = Style::default().add_modifier(Modifier::BOLD);
    Paragraph::new(vec![Line::styled(first, bold), Line::raw(second)])
}

fn draw_streams(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let rows = state.rows();
    let title = format!(
        " streams: {}, by {}{} ",
        rows.len(),
        state.sort.heading().to_lowercase(),
        if state.reversed { ", reversed" } else { "" }
    );
    let shown = rows.iter().skip(state.offset).map(|row| {
        let style = style_of(row);
        Cells::new(row.cells()).style(style)
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(6),
    ];
    let table = Table::new(shown, widths)
        .header(Cells::new(COLUMNS).style(Style::default().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

/// Red is what stands still, yellow what fails or waits.
fn style_of(row: &Row) -> Style {
    let aside = row.quarantined.unwrap_or_default();
    if !matches!(row.health.as_str(), "ok" | "healthy" | "-") {
        Style::default().fg(Color::Red)
    } else if aside > 0 || row.lost > 0 || !row.reason.is_empty() {
        Style::default().fg(Color::Yellow)
    } else {
        Style::default()
    }
}

fn draw_sinks(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let rows = state.sinks.iter().map(|sink: &SinkRow| {
        let waits = sink.waited_seconds.is_some_and(|waited| waited >= 1.0);
        let style = if waits || sink.refused > 0 {
            Style::default().fg(Color::Yellow)
        } else {
            Style::default()
        };
        Cells::new(sink.cells()).style(style)
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(10),
    ];
    let table = Table::new(rows, widths)
        .header(Cells::new(SINK_COLUMNS).style(Style::default().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(" sinks "));
    frame.render_widget(table, area);
}

/// What is wrong, else what is typed, else what can be done.
fn foot_of(state: &State) -> Paragraph<'static> {
    let red = Style::default().fg(Color::Red);
    let mut ledger = state.status.pipelines.iter();
    let ledger = ledger.find_map(|pipeline| pipeline.ledger_trouble.as_ref());
    let unwell = state.rows();
    let unwell = unwell.iter().find(|row| !row.reason.is_empty());
    let line = if let Some(lost) = &state.lost {
        Line::styled(lost.clone(), red)
    } else if state.typing {
        Line::raw(format!("filter: {}_", state.filter))
    } else if let Some(trouble) = ledger {
        Line::styled(format!("ledger: {trouble}"), red)
    } else if let Some(row) = unwell {
        Line::raw(format!("{} {}: {}", row.tenant, row.stream, row.reason))
    } else if state.filter.is_empty() {
        Line::raw("q quit  s sort  r reverse  / filter  arrows move")
    } else {
        Line::raw(format!("filtered by `{}`; Esc shows all", state.filter))
    };
    Paragraph::new(line)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Cell;

    use super::super::state::Key;
    use super::super::state::tests::{busy, sample_of};
    use super::*;
    use crate::error::Error;

    /// The screen as lines without the blanks at their ends.
    fn screen(state: &State) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 18)).unwrap();
        let _ = terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(110);
        let lines = lines.map(|cells| cells.iter().map(Cell::symbol).collect::<String>());
        lines
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    #[test]
    fn the_screen_shows_streams_sinks_and_what_is_wrong() {
        let screen = screen(&busy());
        for words in [
            "sluicegate 9.9.9 at 127.0.0.1:8686, since 2026-05-02T10:00:00Z, 64 MiB",
            "1 pipeline(s), 50.0 events/s, buffer 3 of 48 MiB",
            " streams: 3, by tenant ",
            "│night       contoso      Audit.Exchange",
            "Audit.Exchange",
            "12 +2",
            "elasticsearch",
            "fabrikam DLP.All: permission is missing",
        ] {
            assert!(screen.contains(words), "`{words}` is not in\n{screen}");
        }
    }

    #[test]
    fn a_filter_is_shown_while_it_is_typed_and_after() {
        let mut state = busy();
        for key in [Key::Letter('/'), Key::Letter('q'), Key::Letter('q')] {
            assert!(!state.press(key));
        }
        assert!(screen(&state).contains("filter: qq_"));
        let _ = state.press(Key::Enter);
        assert!(screen(&state).contains("filtered by `qq`; Esc shows all"));
        assert!(screen(&state).contains(" streams: 0, "));
    }

    #[test]
    fn a_collector_that_is_gone_is_said_and_what_was_known_stays() {
        let mut state = busy();
        state.lose(&Error::unavailable(
            "no collector answers at `127.0.0.1:8686`",
        ));
        let lost = screen(&state);
        assert!(
            lost.contains("no collector answers") && lost.contains("Audit.Exchange"),
            "{lost}"
        );
        state.update(sample_of(200));
        assert!(!screen(&state).contains("no collector answers"));
    }

    #[test]
    fn a_tiny_screen_is_no_reason_to_fail() {
        for (width, height) in [(1, 1), (20, 3), (300, 80)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let _ = terminal.draw(|frame| draw(frame, &busy())).unwrap();
        }
    }
}
