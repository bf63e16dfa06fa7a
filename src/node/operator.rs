//! What operators do leaves a trace: an entry before an action and one after it. Without the first
//! the action is not carried out.

use std::sync::Arc;

use rekindle_schema::audit::{AuditEntry, MAX_TEXT, Stage};
use rekindle_schema::{ActionId, Incarnation};
use rekindle_store::{Store, StoreError};

use crate::clock;

/// The action of an operator who ends a match, as the audit log names it.
pub const STOP_ACTION: &str = "match.stop";

/// The audit log could not be written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("RK-ADMIN-507: nothing was done, because it could not be written down first: {0}")]
pub struct NotWritten(#[from] pub StoreError);

/// Writes down what is done on a store.
#[derive(Clone)]
pub struct Operators {
    store: Store,
    node: Incarnation,
}

/// An action that was written down and has not ended yet.
#[must_use = "how it ended is to be written down, too"]
pub struct Action {
    store: Store,
    begun: AuditEntry,
}

impl Operators {
    /// On behalf of `node`; zero if no node is involved.
    pub fn new(store: Store, node: Incarnation) -> Self {
        Self { store, node }
    }

    /// Writes down that something is about to be done: who asked, what, to what, with which
    /// arguments.
    pub async fn begin(
        &self,
        who: &str,
        action: &str,
        target: &str,
        detail: &str,
    ) -> Result<Action, NotWritten> {
        let time_ms = clock::now_ms();
        let begun = AuditEntry {
            time_ms,
            action_id: ActionId::at(time_ms, clock::random()),
            stage: Stage::Begun,
            node: self.node,
            who: cut(who),
            action: cut(action),
            target: cut(target),
            detail: cut(detail),
        };
        self.store.audit.append(begun.clone()).await?;
        Ok(Action { store: self.store.clone(), begun })
    }

    /// Does something, in a task of its own so that it comes to its end even if whoever asked goes
    /// away. `named` says to what it was done, if only its result tells.
    pub async fn carry_out<T, E>(
        &self,
        (who, action, target, detail): (&str, &str, &str, &str),
        work: impl Future<Output = Result<T, E>> + Send + 'static,
        named: impl FnOnce(&T) -> Option<String> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<NotWritten> + From<Abandoned> + std::fmt::Display + Send + 'static,
    {
        let begun = self.begin(who, action, target, detail).await?;
        let done = tokio::spawn(async move {
            let result = work.await;
            let (target, error) = match &result {
                Ok(value) => (named(value), None),
                Err(error) => (None, Some(error.to_string())),
            };
            begun.end(target, error).await;
            result
        });
        done.await.unwrap_or_else(|error| Err(Abandoned(Arc::from(error.to_string())).into()))
    }
}

/// The task of an action did not come to its end: it panicked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the action was cut off: {0}")]
pub struct Abandoned(Arc<str>);

impl Action {
    /// Writes down how it ended. That this fails is no reason to say that the action did: it is
    /// said in the log, and the entry before it stands alone.
    pub async fn end(self, target: Option<String>, error: Option<String>) {
        let Self { store, begun } = self;
        let stage = error.map_or(Stage::Done, |error| Stage::Failed { error: cut(&error) });
        let target = target.map_or_else(|| begun.target.clone(), |target| cut(&target));
        // Never before the entry that it follows, even if the clock was set back.
        let entry =
            AuditEntry { time_ms: clock::now_ms().max(begun.time_ms), stage, target, ..begun };
        if let Err(error) = store.audit.append(entry.clone()).await {
            tracing::error!(
                code = "RK-NODE-041", action = entry.action, who = entry.who, %error,
                "how an action ended is not in the audit log"
            );
        }
    }
}

/// As much as an entry takes.
fn cut(text: &str) -> String {
    let end =
        (0..=text.len().min(MAX_TEXT)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use rekindle_store::AuditQuery;
    use rekindle_store_memory::{Fate, MemoryStore, Op};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error(transparent)]
        NotWritten(#[from] NotWritten),
        #[error(transparent)]
        Abandoned(#[from] Abandoned),
        #[error("the match is gone")]
        Gone,
    }

    async fn stages(memory: &MemoryStore) -> Vec<(Stage, String)> {
        let query = AuditQuery { since_ms: 0, until_ms: u64::MAX, limit: 9 };
        let entries = memory.store().audit.list(query).await.unwrap();
        entries.into_iter().rev().map(|entry| (entry.stage, entry.target)).collect()
    }

    #[tokio::test]
    async fn an_action_has_an_entry_before_and_one_after() {
        let memory = MemoryStore::new();
        let operators = Operators::new(memory.store(), Incarnation(7));
        let seen = memory.clone();
        let work = async move {
            assert_eq!(
                stages(&seen).await,
                [(Stage::Begun, String::new())],
                "it was written down before it began"
            );
            Ok::<_, Failed>(7)
        };
        let what = ("http", "match.create", "", "game=arena");
        assert_eq!(
            operators
                .carry_out(what, work, |number| Some(format!("match {number}")))
                .await
                .unwrap(),
            7
        );
        assert!(stages(&memory).await.contains(&(Stage::Done, "match 7".to_owned())));
        let refused = operators
            .carry_out(
                ("http", "match.stop", "match 9", ""),
                async { Err::<(), _>(Failed::Gone) },
                |()| None,
            )
            .await;
        assert!(matches!(refused, Err(Failed::Gone)));
        // Two actions of one millisecond may be listed in either order.
        let (entries, failed) =
            (stages(&memory).await, Stage::Failed { error: "the match is gone".to_owned() });
        assert!(
            entries.len() == 4 && entries.contains(&(failed, "match 9".to_owned())),
            "{entries:?}"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_written_down_is_not_done() {
        let memory = MemoryStore::new();
        let down = memory.with_faults(Arc::new(|op| Fate {
            fail: (op == Op::Audit).then(|| StoreError::Unavailable("down".to_owned())),
            ..Fate::default()
        }));
        let work = async { panic!("it was done") };
        let result: Result<(), Failed> = Operators::new(down.store(), Incarnation(7))
            .carry_out(("http", "drain", "", ""), work, |()| None)
            .await;
        assert!(
            matches!(
                &result,
                Err(Failed::NotWritten(error)) if error.to_string().contains("RK-ADMIN-507")
            ),
            "{result:?}"
        );
        assert_eq!(stages(&memory).await, []);
    }

    #[tokio::test]
    async fn texts_are_cut_at_a_character() {
        let memory = MemoryStore::new();
        let long = "é".repeat(MAX_TEXT);
        let action = Operators::new(memory.store(), Incarnation(7))
            .begin(&long, "a", &long, &long)
            .await
            .unwrap();
        action.end(Some(long.clone()), Some(long)).await;
        assert_eq!(stages(&memory).await.len(), 2);
    }
}
