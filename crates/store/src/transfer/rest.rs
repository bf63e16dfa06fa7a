//! What is kept beside the logs: the archive, jobs, the audit log.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::archive::ChunkMeta;
use rekindle_schema::job::{Job, JobState, JobStatus};
use rekindle_schema::keyring::KEYRING_ENTRY;
use rekindle_schema::posting::{POSTINGS, Posted};
use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::{MatchId, Tick};

use super::logs::persist;
use super::plan::Plan;
use super::{Run, Step, TransferError};
use crate::archive;
use crate::{AuditQuery, JobFilter, NewJob, StoreError};

/// How many entries of the audit log are asked for at once, at first.
const PAGE: usize = 4_096;

impl Run<'_> {
    /// Copies the archive of the copied matches; with all matches, also what is kept of those that
    /// have gone from the directory, and all pins.
    pub(super) async fn copy_archive(&mut self, plan: &Plan) -> Result<(), TransferError> {
        let mut matches: BTreeSet<MatchId> = plan.rows.iter().map(|row| row.match_id).collect();
        let archived = self.from.archive.matches().await?;
        if self.options.only.is_none() {
            matches.extend(&archived);
        }
        let wanted: Vec<MatchId> = archived.into_iter().filter(|id| matches.contains(id)).collect();
        for (index, &match_id) in wanted.iter().enumerate() {
            self.tell(Step::Archive, index as u64, wanted.len() as u64);
            let (metas, damaged) = self.from.archive.list(match_id).await?;
            if let Some(error) = damaged.first() {
                return Err(TransferError::Damaged(error.to_string()));
            }
            for meta in &metas {
                self.copy_chunk(meta).await?;
            }
        }
        for pin in self
            .from
            .archive
            .pins()
            .await?
            .into_iter()
            .filter(|pin| matches.contains(&pin.match_id))
        {
            persist(|| self.to.archive.pin(pin)).await?;
        }
        Ok(())
    }

    /// Copies the outbox of webhooks: effects that are still to be posted, or were given up; with
    /// all matches, also those of matches that have gone from the directory. To be called behind
    /// the effects: what is entered and posted between the two is nobody's any more, and what is
    /// entered between them and not posted is posted once, since its place is named after it.
    pub(super) async fn copy_postings(
        &mut self,
        plan: &Plan,
        ends: &BTreeMap<MatchId, Tick>,
    ) -> Result<(), TransferError> {
        let only = self.options.only.as_ref();
        let wanted =
            |match_id| only.is_none() || plan.rows.iter().any(|row| row.match_id == match_id);
        let mut copied = BTreeMap::new();
        for entry in self.from.registry.list(POSTINGS).await? {
            let Some(Posted { match_id, id, .. }) = Posted::parse(&entry.name) else {
                let note = format!("entry `{}` of the outbox was left out: unknown", entry.name);
                self.done.notes.push(note);
                continue;
            };
            if !wanted(match_id) || !self.has_happened(ends, match_id, id.tick) {
                continue;
            }
            let first = RegistryEntry { version: 1, ..entry };
            // One that is there already is from an attempt before.
            let _ = persist(|| self.to.registry.put(first.clone())).await?;
            copied.insert(first.name, first.value);
        }
        let there = self.to.registry.list(POSTINGS).await?;
        let there: BTreeSet<String> = there.into_iter().map(|entry| entry.name).collect();
        if let Some(lost) = copied.keys().find(|name| !there.contains(*name)) {
            return Err(TransferError::Differs(format!("entry `{lost}` of the outbox")));
        }
        self.done.postings = copied.len() as u64;
        Ok(())
    }

    /// Copies the keys of the cluster, sealed as they are, into a target that has none. One that
    /// has its own keeps them: its clients trust them.
    pub(super) async fn copy_keys(&self) -> Result<(), TransferError> {
        let Some(keys) = self.from.registry.get(KEYRING_ENTRY).await? else { return Ok(()) };
        if self.to.registry.get(KEYRING_ENTRY).await?.is_none() {
            let first = RegistryEntry { version: 1, ..keys };
            // Whoever was faster has made its own.
            let _ = persist(|| self.to.registry.put(first.clone())).await?;
        }
        Ok(())
    }

    async fn copy_chunk(&mut self, meta: &ChunkMeta) -> Result<(), TransferError> {
        let bytes = match self.from.archive.get(meta).await {
            Ok(bytes) => bytes,
            // Its retention ended.
            Err(StoreError::NotFound(_)) if self.options.cut => return Ok(()),
            Err(error @ StoreError::Corrupt { .. }) => {
                return Err(TransferError::Damaged(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        // Its checksum is right; what is in it is looked at before anybody relies on the copy.
        archive::check(meta, &bytes).map_err(|error| TransferError::Damaged(error.to_string()))?;
        let standing = persist(|| self.to.archive.put(meta.clone(), bytes.clone())).await?;
        if standing != *meta {
            return Err(TransferError::Conflict(vec![format!(
                "{} are others there",
                archive::place(meta)
            )]));
        }
        if self.to.archive.get(meta).await? != bytes {
            return Err(TransferError::Differs(archive::place(meta)));
        }
        self.done.chunks += 1;
        Ok(())
    }

    /// Copies the jobs that are still to be done. Whoever worked on one does not do so in the
    /// target: there it waits, with all its attempts.
    pub(super) async fn copy_jobs(&mut self) -> Result<(), TransferError> {
        let mut open: Vec<Job> = Vec::new();
        for status in [JobStatus::Ready, JobStatus::Running] {
            let filter =
                JobFilter { queue: None, kind: None, status: Some(status), limit: usize::MAX };
            open.extend(self.from.jobs.list(filter).await?);
        }
        for job in open {
            let id = job.id;
            if self.to.jobs.get(id).await?.is_none() {
                let job = waiting(job);
                persist(|| self.to.jobs.enqueue(job.clone())).await?;
            }
            // Another one may stand for it, by its unique key.
            self.done.jobs += u64::from(self.to.jobs.get(id).await?.is_some());
        }
        Ok(())
    }

    /// Copies the audit log, newest entries first.
    pub(super) async fn copy_audit(&mut self) -> Result<(), TransferError> {
        let (mut until_ms, mut limit) = (u64::MAX, PAGE);
        let mut copied = BTreeSet::new();
        loop {
            let page = self.from.audit.list(AuditQuery { since_ms: 0, until_ms, limit }).await?;
            for entry in &page {
                if copied.insert(entry.key()) {
                    persist(|| self.to.audit.append(entry.clone())).await?;
                }
            }
            let Some(oldest) = page.last().filter(|_| page.len() >= limit) else { break };
            // The page may have ended among entries of one moment: they are asked for again.
            let next = oldest.time_ms.saturating_add(1);
            (until_ms, limit) = if next < until_ms { (next, PAGE) } else { (until_ms, limit * 2) };
        }
        self.done.audit = copied.len() as u64;
        Ok(())
    }
}

fn waiting(job: Job) -> NewJob {
    let run_at_ms = match job.state {
        JobState::Ready { run_at_ms } => run_at_ms,
        _ => job.created_ms,
    };
    NewJob {
        id: job.id,
        queue: job.queue,
        kind: job.kind,
        payload: job.payload,
        unique: job.unique,
        run_at_ms,
        max_attempts: job.max_attempts.max(1),
        created_ms: job.created_ms,
    }
}
