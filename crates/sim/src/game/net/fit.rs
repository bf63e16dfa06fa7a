//! Views of a server that plays another build of the game than its client: the fields that the
//! client's build has are found by their names.

use std::sync::Arc;

use rekindle_schema::net::{NetComponent, NetEntity, NetSchema, NetView};

/// How the views of a server are read by a build's own declarations. What the server has beyond
/// them is left out. Made once for each welcome.
///
/// ```
/// use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::net::Fit;
/// use rekindle_sim::{GameType as _, Typed};
///
/// let game = Typed::<Duel>::new()?;
/// let mut theirs = game.net_schema().clone();
/// assert!(Fit::new(game.net_schema(), &theirs).is_ok());
/// theirs.components[0].fields[0].name = "value".to_owned();
/// let lacking = Fit::new(game.net_schema(), &theirs).unwrap_err();
/// assert_eq!(lacking, ["`coin.worth` is not there"]);
/// # Ok::<(), rekindle_sim::SimError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fit {
    /// For each component of the build its place at the server; empty if both have the same.
    components: Vec<usize>,
    /// For each column of the build the server's.
    columns: Vec<usize>,
    /// Columns of the server's rows.
    stride: usize,
}

impl Fit {
    /// `ours` is the build's own schema, `theirs` the one in the server's welcome.
    ///
    /// # Errors
    /// What the server lacks, or has in another form, a line for each component or field.
    pub fn new(ours: &NetSchema, theirs: &NetSchema) -> Result<Self, Vec<String>> {
        let stride = theirs.stride();
        if ours.components == theirs.components {
            return Ok(Self { components: Vec::new(), columns: Vec::new(), stride });
        }
        let (mut components, mut columns, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        for component in &ours.components {
            let Some((place, first, other)) = find(theirs, &component.name) else {
                lacking.push(format!("`{}` is not there", component.name));
                continue;
            };
            components.push(place);
            for field in &component.fields {
                let name = format!("`{}.{}`", component.name, field.name);
                match other.fields.iter().position(|known| known.name == field.name) {
                    None => lacking.push(format!("{name} is not there")),
                    Some(at) if other.fields[at].kind != field.kind => lacking.push(format!(
                        "{name} is {:?}, and {:?} here",
                        other.fields[at].kind, field.kind
                    )),
                    Some(at) => columns.push(first + at),
                }
            }
        }
        if lacking.is_empty() { Ok(Self { components, columns, stride }) } else { Err(lacking) }
    }

    /// The view with the components and columns of the build. The same one, if they are the
    /// server's.
    pub fn view(&self, theirs: &Arc<NetView>) -> Arc<NetView> {
        if self.components.is_empty() {
            return Arc::clone(theirs);
        }
        let mut view =
            NetView { tick: theirs.tick, avatars: theirs.avatars.clone(), ..NetView::default() };
        for (index, entity) in theirs.entities.iter().enumerate() {
            let places = self.components.iter().enumerate();
            let components = places
                .fold(0, |set, (place, theirs)| set | (entity.components >> theirs & 1) << place);
            if components == 0 {
                continue;
            }
            view.entities.push(NetEntity { components, ..*entity });
            let row = theirs.row(index, self.stride);
            view.values.extend(self.columns.iter().map(|column| row[*column]));
        }
        Arc::new(view)
    }
}

/// The component of this name: its place, its first column, and itself.
fn find<'a>(schema: &'a NetSchema, name: &str) -> Option<(usize, usize, &'a NetComponent)> {
    let mut first = 0;
    for (place, component) in schema.components.iter().enumerate() {
        if component.name == name {
            return Some((place, first, component));
        }
        first += component.fields.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use rekindle_schema::net::{FieldKind, NetField};

    use super::*;
    use crate::doc_game::{Coin, Duel, Position};
    use crate::{GameType as _, Simulation as _, Typed, View, ViewEntity};

    /// A server whose build has a component in front of all, and one more field in each.
    fn later(ours: &NetSchema, view: &NetView) -> (NetSchema, NetView) {
        let flag =
            |name: &str| NetField { name: name.to_owned(), kind: FieldKind::Bool, rate: None };
        let new = NetComponent { name: "new".to_owned(), fields: vec![flag("on")] };
        let mut theirs = NetSchema { components: vec![new], position: None };
        theirs.components.extend(ours.components.iter().cloned().map(|mut component| {
            component.fields.insert(0, flag("more"));
            component
        }));
        let mut values = Vec::new();
        for index in 0..view.entities.len() {
            values.push(1);
            let mut row = view.row(index, ours.stride());
            for component in &ours.components {
                let (fields, rest) = row.split_at(component.fields.len());
                values.push(1);
                values.extend_from_slice(fields);
                row = rest;
            }
        }
        let moved =
            |entity: &NetEntity| NetEntity { components: entity.components << 1 | 1, ..*entity };
        let mut entities: Vec<NetEntity> = view.entities.iter().map(moved).collect();
        let slot = entities.last().map_or(0, |last| last.slot) + 1;
        entities.push(NetEntity { slot, generation: 0, components: 1 });
        values.extend(std::iter::repeat_n(0, theirs.stride()));
        let view = NetView { entities, values, ..view.clone() };
        assert!(view.is_consistent(theirs.stride()));
        (theirs, view)
    }

    #[test]
    fn an_older_client_reads_what_it_knows_of_a_later_server() {
        let game = Typed::<Duel>::new().unwrap();
        let mut seen = NetView::default();
        Typed::create(&game, br#"{"coins": 3}"#, 7).unwrap().extract(&mut seen);
        let ours = game.net_schema();
        let (theirs, later) = later(ours, &seen);
        let fit = Fit::new(ours, &theirs).unwrap();
        let (seen, later) = (Arc::new(seen), fit.view(&Arc::new(later)));
        assert_eq!(later, seen, "the entity that has only the new component is left out");
        let coins = |view| {
            let view = View::new(ours, view);
            let coins = view.entities().filter(ViewEntity::has::<Coin>);
            coins.filter_map(|coin| coin.get::<Position>()).collect::<Vec<_>>()
        };
        assert_eq!((coins(&later).len(), coins(&later)), (3, coins(&seen)));
        assert!(Arc::ptr_eq(&Fit::new(ours, ours).unwrap().view(&seen), &seen));
    }

    #[test]
    fn what_a_server_lacks_is_named_field_by_field() {
        let game = Typed::<Duel>::new().unwrap();
        let ours = game.net_schema();
        let mut theirs = ours.clone();
        theirs.components.retain(|component| component.name != "coin");
        theirs.components[0].fields[1].kind = FieldKind::Angle { bits: 9 };
        let lacking = Fit::new(ours, &theirs).unwrap_err();
        assert_eq!(lacking.len(), 2, "{lacking:?}");
        assert_eq!(lacking[0], "`coin` is not there");
        assert!(lacking[1].starts_with("`position.y` is Angle { bits: 9 }"), "{lacking:?}");
    }
}
