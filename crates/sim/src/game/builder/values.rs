//! What a game says of its world as a whole: values under names, and what must hold.

use serde::Serialize;

use crate::ecs::system::Calculation;
use crate::ecs::values::{Aggregates, IfBroken};
use crate::game::builder::{Game, GameBuilder};
use crate::value::component::Component;

impl<G: Game> GameBuilder<G> {
    /// A value of the world under a name: what `calculation` says, a function with parameters of
    /// systems that only looks. It is no state: it is calculated whenever somebody asks for it,
    /// operators with `rekindle match values`, game code with
    /// [`World::value`](crate::World::value), tests with
    /// [`Harness::value`](crate::Harness::value).
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Duel, Position};
    /// use rekindle_sim::{Aggregate as _, GameBuilder, Query, World};
    ///
    /// # fn build(game: &mut GameBuilder<Duel>) {
    /// game.calculation("farthest_coin", |coins: Query<(&Coin, &Position)>| {
    ///     coins.iter().map(|(_, at)| at.x.abs()).greatest_by(|x| *x)
    /// });
    /// # }
    /// fn command(world: &mut World) -> bool {
    ///     world.value::<Option<f32>>("farthest_coin").is_some_and(|x| x > 10.0)
    /// }
    /// ```
    pub fn calculation<C, M>(&mut self, name: &str, calculation: C) -> &mut Self
    where
        C: Calculation<M>,
        C::Out: Serialize,
        M: 'static,
    {
        if self.may("value", name, None) {
            self.values.calculation(name, calculation);
        }
        self
    }

    /// Values under names that are counts and sums over all components of a type, read as
    /// [`GameBuilder::calculation`].
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Duel};
    /// use rekindle_sim::GameBuilder;
    ///
    /// # fn build(game: &mut GameBuilder<Duel>) {
    /// game.aggregates::<Coin>(|coins| {
    ///     coins.count("coins", |_| true).sum("worth", |coin| coin.worth.into());
    ///     coins.count_by("coins_by_worth", |coin| coin.worth);
    /// });
    /// # }
    /// ```
    pub fn aggregates<T: Component>(
        &mut self,
        say: impl FnOnce(&mut Aggregates<'_, T>),
    ) -> &mut Self {
        let before = self.values.names().len();
        say(&mut Aggregates::new(&mut self.values));
        let new: Vec<String> = self.values.names().skip(before).map(str::to_owned).collect();
        for name in new {
            self.may("value", &name, None);
        }
        self
    }

    /// What must hold in every world, under a name: checked at the end of each tick that `every`
    /// divides, behind all systems and with canonical values. `holds` only looks, as a
    /// [calculation](GameBuilder::calculation); its error says what is wrong. What then becomes of
    /// the match says `if_broken`; it is the same wherever the tick is made again.
    ///
    /// ```
    /// use rekindle_sim::doc_game::{Coin, Duel};
    /// use rekindle_sim::{GameBuilder, IfBroken, Query};
    ///
    /// fn coins_are_worth_something(coins: Query<&Coin>) -> Result<(), String> {
    ///     let worthless = coins.iter().filter(|coin| coin.worth == 0).count();
    ///     if worthless == 0 { Ok(()) } else { Err(format!("{worthless} coins of no worth")) }
    /// }
    ///
    /// # fn build(game: &mut GameBuilder<Duel>) {
    /// game.validation("worth_of_coins", 30, IfBroken::Stop, coins_are_worth_something);
    /// # }
    /// ```
    pub fn validation<C, M>(
        &mut self,
        name: &str,
        every: u64,
        if_broken: IfBroken,
        holds: C,
    ) -> &mut Self
    where
        C: Calculation<M, Out = Result<(), String>>,
        M: 'static,
    {
        if self.may("validation", name, None) {
            self.values.validation(name, every, if_broken, holds);
        }
        self
    }
}
