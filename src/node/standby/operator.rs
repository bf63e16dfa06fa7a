//! What operators want of the standbys of a match. Called through [`Serving`].

use rekindle_cluster::standby::wishes::MAX_STANDBYS;
use rekindle_schema::MatchId;
use rekindle_schema::lease::MatchState;
use rekindle_schema::standby::StandbyWish;
use rekindle_store::standbys;

use crate::node::listing::MatchReport;
use crate::node::{ControlError, Serving};

impl Serving {
    /// Sets how many nodes follow a match; `None`: what its game has. It is in the store, so it
    /// counts whoever runs the match, until the match is over; nodes read it within a second or
    /// two.
    pub async fn set_standby(
        &self,
        id: MatchId,
        standbys: Option<u8>,
    ) -> Result<MatchReport, ControlError> {
        if standbys.is_some_and(|count| count > MAX_STANDBYS) {
            return Err(ControlError::Invalid(format!(
                "RK-NODE-196: a match has at most {MAX_STANDBYS} standbys"
            )));
        }
        let store = &self.parts().store;
        let row = store.leases.get(id).await?;
        let row = row.ok_or_else(|| ControlError::NoMatch(id.to_string()))?;
        if matches!(row.state, MatchState::Ended { .. }) {
            return Err(ControlError::Invalid(format!(
                "RK-NODE-197: match {id} is over: there is nothing to follow"
            )));
        }
        standbys::wish(store, id, standbys.map(|standbys| StandbyWish { standbys })).await?;
        self.match_report(id).await
    }
}
