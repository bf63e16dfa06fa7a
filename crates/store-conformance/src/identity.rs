//! The identity of a store: one for all who open it, kept until it is renewed, with floors that
//! only grow.

use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Epoch, MatchId};
use rekindle_store::identity::Fresh;

use super::{Backend, NODE, match_lease, open_many};

const NOW: u64 = 1_795_000_000_000;

fn fresh(chance: u128) -> Fresh {
    Fresh { now_ms: NOW, chance }
}

/// A new store begins at the bottom; a renewed identity is another one, above all epochs that are
/// known, for everybody.
pub async fn an_identity_stays_until_it_is_renewed(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    assert_eq!(store.identity.current().await.unwrap(), None);
    let first = store.identity.ascertain(fresh(1)).await.unwrap();
    assert_eq!((first.id.0, first.floor, first.made_ms), (1, Epoch(0), NOW));
    assert_eq!(other.identity.ascertain(fresh(2)).await.unwrap(), first);
    assert_eq!(other.identity.current().await.unwrap().as_ref(), Some(&first));
    let second = other.identity.renew(fresh(3), "a test", Epoch(5)).await.unwrap();
    assert_eq!((second.id.0, second.floor, second.because.as_str()), (3, Epoch(NOW), "a test"));
    assert_eq!(store.identity.ascertain(fresh(4)).await.unwrap(), second);
    // Whatever the clock says, what is known is passed by.
    let high = MatchLease { epoch: Epoch(NOW + 7_000), ..match_lease(MatchId(1), &[(NODE, 1)]) };
    store.leases.create(high).await.unwrap();
    let third =
        store.identity.renew(Fresh { now_ms: 5, chance: 5 }, "again", Epoch(0)).await.unwrap();
    assert!(third.floor > Epoch(NOW + 7_000), "{}", third.floor);
    let fourth = store
        .identity
        .renew(Fresh { now_ms: 5, chance: 6 }, "again", Epoch(third.floor.0 + 9))
        .await
        .unwrap();
    assert!(fourth.floor > Epoch(third.floor.0 + 9), "{}", fourth.floor);
    assert_eq!(other.identity.current().await.unwrap(), Some(fourth));
}

/// Nodes that start at the same time on a new store agree.
pub async fn of_many_nodes_one_names_the_store(backend: &impl Backend) {
    let stores = open_many(backend, 4).await;
    let named = futures::future::join_all(
        (1..).zip(&stores).map(|(chance, store)| store.identity.ascertain(fresh(chance))),
    )
    .await;
    let named: Vec<_> = named.into_iter().map(|found| found.unwrap()).collect();
    assert!(named.iter().all(|found| *found == named[0]), "{named:?}");
}
