//! What operators, the clock and the service's people do, and when it is time to stop.

use std::sync::Arc;
use std::time::Duration;

use sluicegate::ledger::Ledger;
use sluicegate_office::Application;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::chance::{Concern, Stream};
use crate::coverage::Point;
use crate::judge;
use crate::plan::{LONGEST_SKEW_MS, Plan, Trouble};
use crate::time::{HOUR_MS, MINUTE_MS, START_MS};
use crate::world::{World, kinds};

/// How often it is asked whether everything has arrived.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);

/// How soon something that had to wait is tried again.
const A_MOMENT: Duration = Duration::from_secs(5);

/// Something that happens to the process or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    /// Every token of every tenant is revoked.
    Revoke,
    /// The application is disabled, or works again.
    Suspend(bool),
    /// The first content type is denied, or is not any more.
    Deny(bool),
    /// The subscription of the first content type is disabled.
    Unsubscribe,
    /// The wall clock is so far ahead.
    Skew(i64),
    /// The process is stopped, for so long.
    Stop(i64),
    /// Nothing goes wrong any more.
    Calm,
}

/// Why a life ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was stopped, to be started again after so many milliseconds.
    Stopped(i64),
    /// Everything has arrived.
    Drained,
    /// Not everything has arrived in time.
    TooLate,
}

/// What is still to happen.
#[derive(Debug)]
pub struct Director {
    /// The last stands first to come.
    script: Vec<(i64, Happening)>,
    calm_at_ms: Option<i64>,
}

impl Director {
    /// Writes the script of a plan.
    pub fn new(plan: &Plan) -> Self {
        let mut chance = Stream::new(plan.seed, Concern::Operator);
        let end = START_MS + plan.safety_ms;
        let mut script = vec![(end, Happening::Calm)];
        let at = |chance: &mut Stream| {
            START_MS + i64::try_from(chance.below(plan.safety_ms.unsigned_abs())).unwrap_or(0)
        };
        for trouble in &plan.troubles {
            let (from, to) = (at(&mut chance), at(&mut chance));
            let (from, to) = (from.min(to), from.max(to));
            match trouble {
                Trouble::Revocations => {
                    script.extend([(from, Happening::Revoke), (to, Happening::Revoke)]);
                }
                Trouble::Suspension => {
                    script.extend([
                        (from, Happening::Suspend(true)),
                        (to, Happening::Suspend(false)),
                    ]);
                }
                Trouble::Denial => {
                    script.extend([(from, Happening::Deny(true)), (to, Happening::Deny(false))]);
                }
                Trouble::Unsubscribed => script.push((from, Happening::Unsubscribe)),
                Trouble::ClockForward => {
                    let ahead = chance.pick(&[1_000, 5 * MINUTE_MS, LONGEST_SKEW_MS]);
                    script.extend([(from, Happening::Skew(ahead)), (to, Happening::Skew(0))]);
                }
                Trouble::ClockBack => {
                    let behind = chance.pick(&[1_000, 5 * MINUTE_MS, LONGEST_SKEW_MS]);
                    script.extend([(from, Happening::Skew(-behind)), (to, Happening::Skew(0))]);
                }
                Trouble::Restarts => {
                    script.extend([
                        (from, Happening::Stop(1_000)),
                        (to, Happening::Stop(20_000)),
                    ]);
                }
                Trouble::Absence => {
                    script.push((from, Happening::Stop(plan.away_ms)));
                }
                _ => {}
            }
        }
        script.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            script,
            calm_at_ms: None,
        }
    }

    /// Directs one life until it is to end; stops it then.
    pub async fn direct(
        &mut self,
        world: &Arc<World>,
        ledger: &Arc<dyn Ledger>,
        stop: &CancellationToken,
    ) -> Ending {
        loop {
            let now_ms = world.clock.true_ms();
            let Some((at, happening)) = self.script.last().copied() else {
                let ending = self.wait_until_drained(world, ledger).await;
                stop.cancel();
                return ending;
            };
            if at > now_ms {
                sleep(Duration::from_millis((at - now_ms).unsigned_abs())).await;
            }
            let away = matches!(happening, Happening::Stop(ms) if ms > HOUR_MS);
            if away && !world.witness.has_begun(&world.plan) {
                // Whoever leaves before anything knows where it begins has never started it.
                sleep(A_MOMENT).await;
                continue;
            }
            self.script.pop();
            world.effects.trace(&format!("{happening:?}"));
            if let Happening::Stop(ms) = happening {
                world.coverage.mark(Point::StoppedGracefully);
                if ms > HOUR_MS {
                    world.coverage.mark(Point::LongAbsence);
                }
                stop.cancel();
                return Ending::Stopped(ms);
            }
            self.play(world, happening);
        }
    }

    fn play(&mut self, world: &Arc<World>, happening: Happening) {
        let mark = |point| world.coverage.mark(point);
        let first = kinds(world.plan.streams)[0];
        let mut office = world.office();
        let tenants = office.tenants().len();
        match happening {
            Happening::Revoke => {
                mark(Point::TokenRevoked);
                (0..tenants).for_each(|tenant| office.revoke_tokens(tenant));
            }
            Happening::Suspend(on) => {
                mark(Point::SignInRefused);
                office.tenant_mut(0).application = if on {
                    Application::Disabled
                } else {
                    Application::Active
                };
                office.revoke_tokens(0);
            }
            Happening::Deny(on) => {
                mark(Point::TypeDenied);
                office.tenant_mut(0).denied = if on { vec![first] } else { Vec::new() };
            }
            Happening::Unsubscribe => {
                mark(Point::SubscriptionGone);
                office.tenant_mut(0).disable(first);
                world.witness.disabled(0);
            }
            Happening::Skew(ms) => {
                match ms {
                    1.. => mark(Point::ClockForward),
                    0 => {}
                    _ => mark(Point::ClockBack),
                }
                world.clock.set_skew(ms);
            }
            Happening::Calm => {
                for tenant in 0..tenants {
                    office.tenant_mut(tenant).application = Application::Active;
                    office.tenant_mut(tenant).denied.clear();
                }
                drop(office);
                world.calm();
                self.calm_at_ms = Some(world.clock.true_ms());
            }
            Happening::Stop(_) => {}
        }
    }

    async fn wait_until_drained(&self, world: &Arc<World>, ledger: &Arc<dyn Ledger>) -> Ending {
        let calm_ms = self.calm_at_ms.unwrap_or(START_MS);
        // What comes late has to have come, and then has its time to arrive.
        let plan = &world.plan;
        let coming_ms = plan.safety_ms.max(plan.later_ms) + plan.late_ms;
        let least_ms = (START_MS + coming_ms).max(calm_ms);
        loop {
            sleep(LOOK_EVERY).await;
            let now_ms = world.clock.true_ms();
            if now_ms > least_ms && judge::is_drained(world, ledger).await {
                world.coverage.mark(Point::Drained);
                return Ending::Drained;
            }
            if now_ms > least_ms + plan.patience_ms() {
                return Ending::TooLate;
            }
        }
    }
}
