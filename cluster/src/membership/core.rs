//! Decides which nodes to link to and which look dead. Pure: no clock, no socket, no store; driven
//! by [`super::driver`] in a node and by simulations.
//!
//! # Who looks dead
//!
//! * Its link has ended *and* it does not listen at its address any more (the host says that nobody
//!   does, or another node answers): its process has ended. Milliseconds after its death.
//! * It is not heard in the gossip any more, beyond the bound of the failure detector, *and*
//!   nothing comes over its link either, if there is one: it hangs, or is cut off. One that this
//!   node has neither heard nor been linked with is not judged: its lease is.
//!
//! While more than half of all nodes say nothing for half of that time, nobody *begins* to look
//! dead by silence: it is this node that is cut off, most likely, and of those that it does not
//! hear it would take the first for dead before it misses the others.
//!
//! One that is heard again looks alive again. After a pause of this node everybody gets time to be
//! heard first: what was not heard meanwhile, this node would not have heard either.
//!
//! # Links
//!
//! Of two nodes the younger one dials, so that they never dial each other at once. A node that
//! cannot be reached is dialled again with growing pauses, scattered so that not all do it at once.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::Incarnation;

use super::{Looks, Peer};

/// How often the core is to be told the time, in milliseconds.
pub const TICK_MS: u64 = 100;
/// When ticks are further apart than this, this node was paused, in milliseconds.
pub const PAUSE_MS: u64 = 600;
/// How long everybody has to be heard again after a pause, in milliseconds.
pub const LISTEN_MS: u64 = 1_000;
/// A link on which so long nothing was heard says nothing for its node, in milliseconds.
pub const QUIET_MS: u64 = 800;
/// A node that says nothing for so long is missed, in milliseconds.
pub const MISSED_MS: u64 = QUIET_MS / 2;
/// The same for a node that gossip has never heard: it has just come, or UDP does not get through.
pub const QUIET_UNHEARD_MS: u64 = 1_500;
/// How long a node without a link must stay beyond the bound of the gossip, in milliseconds.
pub const HOLD_MS: u64 = 400;
/// When, after the end of a link, to look whether the node has died, in milliseconds. A process
/// that ends closes its link a moment before it is gone.
const LOOKS_AFTER_MS: [u64; 6] = [0, 8, 25, 70, 180, 400];
/// The first pause before a node is dialled again, in milliseconds.
const REDIAL_MS: u64 = 100;
/// The longest.
const REDIAL_MOST_MS: u64 = 5_000;
/// How often a node that was told of and never heard is sent gossip, in milliseconds.
const GREET_EVERY_MS: u64 = 1_000;
/// A node that the store does not know is forgotten after so long, in milliseconds: its lease may
/// be younger than the last look at the store.
const UNKNOWN_MS: u64 = 3_000;

/// How many nodes that are over are remembered.
const MAX_OVER: usize = 1_024;

const _: () = assert!(PAUSE_MS > 3 * TICK_MS, "a late tick is no pause");
const _: () = assert!(QUIET_MS < LISTEN_MS, "links are heard again before anybody is judged");

/// What happens to a node's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time goes on. To be told every [`TICK_MS`].
    Tick,
    /// These nodes are told of, by the registry or by gossip.
    Told(Vec<Peer>),
    /// Whom the gossip hears now, and who is beyond the bound of its failure detector.
    Heard {
        /// Heard.
        live: BTreeSet<Incarnation>,
        /// Not heard for too long.
        silent: BTreeSet<Incarnation>,
    },
    /// The links that are up, and for how many milliseconds nothing was heard on each.
    Links(BTreeMap<Incarnation, u64>),
    /// An attempt to link has ended; a link that came of it is in the next [`Event::Links`].
    Dialled(Incarnation),
    /// It is certain that this node does not listen at its address any more.
    NotThere(Incarnation),
    /// The nodes that the store has as live, as just read.
    Live(BTreeSet<Incarnation>),
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a link to this node. At most one attempt for each node runs.
    Dial(Peer),
    /// End the link to this node.
    Close(Incarnation),
    /// Find out whether this node listens at its address still.
    Knock(Peer),
    /// Send gossip to this node.
    Greet(Peer),
    /// Look at the store at once: somebody may have died.
    Look,
    /// The link to this node is up.
    Linked(Peer),
    /// It has ended.
    Unlinked(Peer),
    /// This node looks dead from now on.
    Suspect(Peer, Why),
    /// It does not any more.
    Clear(Peer),
}

/// Why a node looks dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its link has ended and it does not listen at its address any more.
    Ended,
    /// It is not heard any more.
    Silent,
}

/// A link that has ended, and none has come since.
#[derive(Debug)]
struct Lost {
    at_ms: u64,
    /// How many of the looks after that have been taken.
    looks: usize,
    /// The node does not listen at its address any more.
    not_there: bool,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    known_since_ms: u64,
    /// The store had it as live once.
    was_live: bool,
    /// It was heard in the gossip once.
    was_heard: bool,
    /// Since when it is beyond the bound of the gossip's failure detector, if it is.
    silent_since_ms: Option<u64>,
    /// For how long nothing was heard on its link, if that is up.
    link_quiet_ms: Option<u64>,
    lost: Option<Lost>,
    suspected: bool,
    attempts: u32,
    /// When to dial it; `None` while an attempt runs.
    dial_at_ms: Option<u64>,
    greet_at_ms: u64,
}

impl Member {
    fn new(peer: Peer, now_ms: u64) -> Self {
        Self {
            peer,
            known_since_ms: now_ms,
            was_live: false,
            was_heard: false,
            silent_since_ms: None,
            link_quiet_ms: None,
            lost: None,
            suspected: false,
            attempts: 0,
            dial_at_ms: Some(now_ms),
            greet_at_ms: now_ms,
        }
    }

    /// Why it looks dead, if it does.
    fn looks_dead(&self, now_ms: u64, may_judge_silence: bool) -> Option<Why> {
        if self.lost.as_ref().is_some_and(|lost| lost.not_there) {
            return Some(Why::Ended);
        }
        let silent_ms = now_ms.saturating_sub(self.silent_since_ms?);
        let confirmed = match self.link_quiet_ms {
            Some(quiet_ms) if self.was_heard => quiet_ms >= QUIET_MS,
            Some(quiet_ms) => quiet_ms >= QUIET_UNHEARD_MS,
            // Its link may just have been closed because it looks dead.
            None => self.suspected || self.was_heard && silent_ms >= HOLD_MS,
        };
        (may_judge_silence && confirmed).then_some(Why::Silent)
    }

    /// Whether it was ever heard, and has not ended for certain.
    fn has_a_voice(&self) -> bool {
        let ended = self.lost.as_ref().is_some_and(|lost| lost.not_there);
        !ended && (self.was_heard || self.link_quiet_ms.is_some())
    }

    /// Whether it says less than usual, long before it looks dead.
    fn is_missed(&self) -> bool {
        match self.link_quiet_ms {
            Some(quiet_ms) => quiet_ms >= MISSED_MS,
            None => self.suspected || self.silent_since_ms.is_some(),
        }
    }

    fn looks(&self) -> Looks {
        if self.suspected {
            Looks::Dead
        } else if self.link_quiet_ms.is_some() || self.was_heard && self.silent_since_ms.is_none() {
            Looks::Alive
        } else {
            Looks::Told
        }
    }
}

/// What one node knows of the others.
#[derive(Debug)]
pub struct Membership {
    me: Incarnation,
    members: BTreeMap<Incarnation, Member>,
    /// Nodes that are over, of which gossip still tells: the youngest, at most [`MAX_OVER`].
    over: BTreeSet<Incarnation>,
    last_event_ms: Option<u64>,
    /// Nobody is judged by silence before this.
    listening_until_ms: u64,
}

impl Membership {
    /// Of a node that knows nobody yet.
    pub fn new(me: Incarnation) -> Self {
        Self {
            me,
            members: BTreeMap::new(),
            over: BTreeSet::new(),
            last_event_ms: None,
            listening_until_ms: 0,
        }
    }

    /// Takes in what has happened, at `now_ms` of a clock that only this node uses and that never
    /// goes back.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let before_ms = self.last_event_ms.replace(now_ms).unwrap_or(now_ms);
        if now_ms.saturating_sub(before_ms) > PAUSE_MS {
            self.listening_until_ms = now_ms + LISTEN_MS;
        }
        match event {
            Event::Tick => self.tick(now_ms, &mut effects),
            Event::Told(peers) => self.told(now_ms, peers),
            Event::Heard { live, silent } => self.heard(now_ms, &live, &silent),
            Event::Links(up) => self.links(now_ms, &up, &mut effects),
            Event::Dialled(node) => self.dialled(now_ms, node),
            Event::NotThere(node) => {
                let lost = self.members.get_mut(&node).and_then(|member| member.lost.as_mut());
                if let Some(lost) = lost {
                    lost.not_there = true;
                }
            }
            Event::Live(live) => self.live(now_ms, &live, &mut effects),
        }
        self.judge(now_ms, &mut effects);
        effects
    }

    /// Who looks dead now.
    pub fn suspected(&self) -> BTreeSet<Incarnation> {
        let suspected = self.members.iter().filter(|(_, member)| member.suspected);
        suspected.map(|(node, _)| *node).collect()
    }

    /// All nodes that are known, this one left out: how each looks, and whether there is a link.
    pub fn members(&self) -> impl Iterator<Item = (&Peer, Looks, bool)> {
        self.members
            .values()
            .map(|member| (&member.peer, member.looks(), member.link_quiet_ms.is_some()))
    }

    /// Whether the store had the node as live since it is known. A run that ended before, such as
    /// the last one of this node itself, is told of by gossip for a while and has never been.
    pub fn was_live(&self, node: Incarnation) -> bool {
        self.members.get(&node).is_some_and(|member| member.was_live)
    }

    fn told(&mut self, now_ms: u64, peers: Vec<Peer>) {
        for peer in peers {
            let is_over = self.over.contains(&peer.incarnation);
            if is_over || peer.incarnation == self.me || peer.address.is_empty() {
                continue;
            }
            let member = self
                .members
                .entry(peer.incarnation)
                .or_insert_with(|| Member::new(peer.clone(), now_ms));
            // Whoever answered at an address that an operator gave has not told its region.
            if !peer.region.is_empty() {
                member.peer = peer;
            }
        }
    }

    fn heard(&mut self, now_ms: u64, live: &BTreeSet<Incarnation>, silent: &BTreeSet<Incarnation>) {
        for (node, member) in &mut self.members {
            if live.contains(node) {
                member.was_heard = true;
                member.silent_since_ms = None;
            } else if silent.contains(node) {
                member.silent_since_ms.get_or_insert(now_ms);
            }
            // One that the gossip has forgotten altogether stays as it was.
        }
    }

    fn links(&mut self, now_ms: u64, up: &BTreeMap<Incarnation, u64>, effects: &mut Vec<Effect>) {
        for (node, member) in &mut self.members {
            let quiet_ms = up.get(node).copied();
            match (member.link_quiet_ms.is_some(), quiet_ms.is_some()) {
                (false, true) => {
                    member.lost = None;
                    member.attempts = 0;
                    effects.push(Effect::Linked(member.peer.clone()));
                }
                (true, false) => {
                    member.lost = Some(Lost { at_ms: now_ms, looks: 0, not_there: false });
                    member.dial_at_ms = member.dial_at_ms.map(|_| now_ms + REDIAL_MS);
                    effects.push(Effect::Unlinked(member.peer.clone()));
                    look_after(member, now_ms, effects);
                }
                _ => {}
            }
            member.link_quiet_ms = quiet_ms;
        }
    }

    fn dialled(&mut self, now_ms: u64, node: Incarnation) {
        let me = self.me;
        if let Some(member) = self.members.get_mut(&node) {
            member.attempts = member.attempts.saturating_add(1);
            member.dial_at_ms = Some(now_ms + redial_after_ms(me, node, member.attempts));
        }
    }

    /// What is not live in the store any more is over: its matches are taken, or it has stopped.
    fn live(&mut self, now_ms: u64, live: &BTreeSet<Incarnation>, effects: &mut Vec<Effect>) {
        let over_now = &mut self.over;
        self.members.retain(|node, member| {
            let is_live = live.contains(node);
            member.was_live |= is_live;
            let over = !is_live
                && (member.was_live || now_ms.saturating_sub(member.known_since_ms) > UNKNOWN_MS);
            if over && member.link_quiet_ms.is_some() {
                effects.push(Effect::Close(*node));
            }
            if over {
                over_now.insert(*node);
            }
            !over
        });
        while self.over.len() > MAX_OVER {
            self.over.pop_first();
        }
    }

    fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        for (node, member) in &mut self.members {
            look_after(member, now_ms, effects);
            let linked = member.link_quiet_ms.is_some();
            let due = member.dial_at_ms.is_some_and(|dial_at_ms| now_ms >= dial_at_ms);
            if *node < self.me && !linked && due {
                member.dial_at_ms = None;
                effects.push(Effect::Dial(member.peer.clone()));
            }
            if !member.was_heard && now_ms >= member.greet_at_ms {
                member.greet_at_ms = now_ms + GREET_EVERY_MS;
                effects.push(Effect::Greet(member.peer.clone()));
            }
        }
    }

    /// Says whose looks have changed.
    fn judge(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let may_judge_silence = now_ms >= self.listening_until_ms;
        let voices = self.members.values().filter(|member| member.has_a_voice());
        let (all, missed) = voices.fold((1, 0), |(all, missed), member| {
            (all + 1, missed + usize::from(member.is_missed()))
        });
        let cut_off = 2 * missed > all;
        for (node, member) in &mut self.members {
            let may_judge = may_judge_silence && (member.suspected || !cut_off);
            match (member.suspected, member.looks_dead(now_ms, may_judge)) {
                (false, Some(why)) => {
                    member.suspected = true;
                    if member.link_quiet_ms.is_some() {
                        effects.push(Effect::Close(*node));
                    }
                    effects.push(Effect::Suspect(member.peer.clone(), why));
                    effects.push(Effect::Look);
                }
                (true, None) => {
                    member.suspected = false;
                    effects.push(Effect::Clear(member.peer.clone()));
                }
                _ => {}
            }
        }
    }

    /// When the next look after the end of a link is due, if one is: earlier than the next tick.
    pub fn next_look_ms(&self) -> Option<u64> {
        self.members.values().filter_map(due_ms).min()
    }
}

/// When the next look after the end of a member's link is due.
fn due_ms(member: &Member) -> Option<u64> {
    let lost = member.lost.as_ref().filter(|_| !member.suspected)?;
    LOOKS_AFTER_MS.get(lost.looks).map(|after_ms| lost.at_ms + after_ms)
}

/// Takes the looks after the end of a link that are due.
fn look_after(member: &mut Member, now_ms: u64, effects: &mut Vec<Effect>) {
    let mut due = false;
    while due_ms(member).is_some_and(|due_ms| due_ms <= now_ms) {
        if let Some(lost) = &mut member.lost {
            lost.looks += 1;
        }
        due = true;
    }
    if due {
        effects.push(Effect::Knock(member.peer.clone()));
        effects.push(Effect::Look);
    }
}

/// The pause before a node is dialled again: doubled each time, and scattered by half.
fn redial_after_ms(me: Incarnation, node: Incarnation, attempts: u32) -> u64 {
    let pause_ms = (REDIAL_MS << attempts.min(16)).min(REDIAL_MOST_MS);
    let word = me.0 ^ node.0.rotate_left(32) ^ u64::from(attempts);
    let chance = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    pause_ms / 2 + chance % (pause_ms / 2).max(1)
}
