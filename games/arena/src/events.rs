//! What happens in a match: what systems tell each other, and what players are told.

use rekindle_sim::{Entity, Event, PlayerId, Value};

use crate::components::PickupKind;
use crate::geometry::Vec2;
use crate::phases::Phase;
use crate::weapons::WeaponKind;

/// A body was hit. From the weapons' systems to the one that deals with health.
#[derive(Debug, Clone, Copy, PartialEq, Event)]
#[event(id = "arena.hit")]
pub struct Hit {
    /// Who was hit.
    pub target: Entity,
    /// The fighter who shot.
    pub shooter: Entity,
    /// The player who steers that fighter.
    pub player: PlayerId,
    /// The weapon that hit.
    pub weapon: WeaponKind,
    /// Hit points.
    pub damage: u8,
    /// What is added to the velocity of the target.
    pub push: Vec2,
}

/// A phase began.
#[derive(Debug, Clone, PartialEq, Eq, Event)]
#[event(id = "arena.began")]
pub struct Began {
    /// The phase that begins.
    pub phase: Phase,
    /// Why it begins.
    pub reason: Reason,
    /// How many ticks the phase before took.
    pub after: u64,
}

/// Why a phase began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Value)]
pub enum Reason {
    /// There are enough players, and the lobby has waited for the others.
    EnoughPlayers,
    /// Everybody is ready.
    AllReady,
    /// Too many left.
    TooFewPlayers,
    /// The countdown is over.
    Fight,
    /// Somebody has enough kills.
    ScoreLimit,
    /// Time is up.
    TimeLimit,
    /// Nobody is left.
    EverybodyLeft,
    /// They want to go again.
    Rematch,
}

impl Reason {
    /// The reason as players read it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::EnoughPlayers => "enough players",
            Self::AllReady => "all are ready",
            Self::TooFewPlayers => "too few players",
            Self::Fight => "fight",
            Self::ScoreLimit => "score limit",
            Self::TimeLimit => "time limit",
            Self::EverybodyLeft => "everybody left",
            Self::Rematch => "rematch",
        }
    }
}

/// Told to everybody as `phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Event)]
#[event(id = "phase")]
pub struct PhaseChange {
    /// Which phase begins.
    pub phase: Phase,
    /// Why it begins.
    pub reason: Reason,
}

/// Told to everybody as `kill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Event)]
#[event(id = "kill")]
pub struct Kill {
    /// Whose shot it was; the victim's own after an accident.
    pub killer: PlayerId,
    /// Who fell.
    pub victim: PlayerId,
    /// By what.
    pub weapon: WeaponKind,
}

/// Told to everybody as `respawn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Event)]
#[event(id = "respawn")]
pub struct Respawn {
    /// Who is back.
    pub player: PlayerId,
}

/// Told to everybody as `pickup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Event)]
#[event(id = "pickup")]
pub struct Taken {
    /// Who took it.
    pub player: PlayerId,
    /// What was picked up.
    pub kind: PickupKind,
}
