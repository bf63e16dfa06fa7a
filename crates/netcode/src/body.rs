//! The bit-packed part of a snapshot: which of the known entities went, were replaced or changed,
//! and which are new.
//!
//! Both ends hold the same list of known entities (the baseline), ascending by slot; the body
//! refers to it by index. Called by the sender and the receiver, knows nothing of ticks, budgets or
//! interest. `docs/PROTOCOL.md` has the layout.

use crate::bits::{BitReader, BitWriter};
use crate::layout::{Layout, MAX_COLUMNS};
use crate::snapshot::SnapshotError;

/// Most entities that one client knows at a time.
pub const MAX_ENTITIES: usize = 8192;

/// Rice parameters of rare things.
const RARE_K: u32 = 2;
const SLOT_K: u32 = 3;
const SUCCESSOR_K: u32 = 1;
const COUNT_K: u32 = 2;

/// What happened to a known entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has other values: a row of residuals and the mask of those that are not 0.
    Update { residuals: u32, changed: u128 },
    /// It is gone, or out of sight.
    Remove,
    /// Another entity has its slot, or it has other components.
    Replace,
}

/// One line of the body, as the sender sees it. New entities are replacements of none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Index in the list of known entities; for new ones, none.
    pub(crate) known: Option<u32>,
    /// Index in the view; none for removals.
    pub(crate) view: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// Generation of the known entity.
    pub(crate) predecessor: u32,
    pub(crate) components: u32,
    pub(crate) change: Change,
    /// Index of the model that codes an update.
    pub(crate) model: u32,
    /// It waits for a later snapshot.
    pub(crate) deferred: bool,
    /// What it took, in bits, without its share in the sets.
    pub(crate) cost: u32,
}

impl Item {
    /// Another entity than the known one takes the slot, not the same with other components.
    pub(crate) fn is_successor(&self) -> bool {
        self.known.is_some()
            && self.change == Change::Replace
            && self.generation != self.predecessor
    }

    fn update(&self) -> Option<(u32, u128)> {
        match self.change {
            Change::Update { residuals, changed } if !self.deferred => Some((residuals, changed)),
            _ => None,
        }
    }
}

/// How the residuals of one column are coded.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    k: u32,
    /// One bit says whether the residual is 0; if not, one less follows.
    flagged: bool,
}

impl Code {
    /// The shorter way to code `count` residuals, `nonzero` of which are not 0 and add up to `sum`.
    fn fit(count: u64, nonzero: u64, sum: u64) -> Self {
        let rice = |sum: u64, count: u64| {
            let k = parameter(sum, count);
            (k, count * (1 + u64::from(k)) + (sum >> k))
        };
        let ((plain, plain_bits), (rest, rest_bits)) =
            (rice(sum, count), rice(sum - nonzero, nonzero));
        if plain_bits <= count + rest_bits {
            Self { k: plain, flagged: false }
        } else {
            Self { k: rest, flagged: true }
        }
    }

    #[inline]
    fn put(self, value: u32, bits: &mut BitWriter<'_>) {
        if !self.flagged {
            bits.rice(value, self.k);
        } else if value == 0 {
            bits.put(0, 1);
        } else {
            bits.put(1, 1);
            bits.rice(value - 1, self.k);
        }
    }

    #[inline]
    fn get(self, bits: &mut BitReader<'_>) -> Result<u32, SnapshotError> {
        if !self.flagged {
            return Ok(bits.rice(self.k)?);
        }
        Ok(if bits.get(1)? == 0 { 0 } else { bits.rice(self.k)?.wrapping_add(1) })
    }
}

/// How the residuals of entities with the same components are coded.
#[derive(Debug, Clone)]
struct Model {
    components: u32,
    present: u128,
    /// Columns that every update carries.
    hot: u128,
    /// The same one by one, ascending, with their codes.
    codes: Vec<(u8, Code)>,
    /// It stands in the stream already.
    told: bool,
    count: u32,
    nonzero: [u32; MAX_COLUMNS],
    sum: [u64; MAX_COLUMNS],
}

/// The models of one snapshot: chosen by the encoder from the residuals, told to the decoder where
/// each is needed first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Models {
    /// The first `used` are of this snapshot, the others wait to be used again.
    list: Vec<Model>,
    used: usize,
    /// What becomes of each known entity, for [`encode`].
    states: Vec<u8>,
}

/// The Rice parameter for `count` values that add up to `sum`.
fn parameter(sum: u64, count: u64) -> u32 {
    // 0.7 is about ln 2: the best parameter for geometrically distributed values.
    let mean = sum * 7 / (count.max(1) * 10);
    if mean == 0 { 0 } else { (mean.ilog2() + 1).min(15) }
}

impl Models {
    /// Index of the model for `components`, made if there is none.
    #[inline]
    fn find(&mut self, layout: &Layout, components: u32) -> usize {
        if let Some(index) =
            self.list[..self.used].iter().position(|model| model.components == components)
        {
            return index;
        }
        if self.used == self.list.len() {
            self.list.push(Model {
                components,
                present: 0,
                hot: 0,
                codes: Vec::new(),
                told: false,
                count: 0,
                nonzero: [0; MAX_COLUMNS],
                sum: [0; MAX_COLUMNS],
            });
        }
        let stride = layout.stride();
        let model = &mut self.list[self.used];
        model.components = components;
        model.present = layout.present(components);
        (model.hot, model.told, model.count) = (0, false, 0);
        model.codes.clear();
        model.nonzero[..stride].fill(0);
        model.sum[..stride].fill(0);
        self.used += 1;
        self.used - 1
    }

    /// Nothing is in the stream yet.
    fn restart(&mut self) {
        self.list.iter_mut().for_each(|model| model.told = false);
    }

    /// Fits the models to the residuals of `items`.
    pub(crate) fn fit(&mut self, layout: &Layout, items: &mut [Item], residuals: &[u32]) {
        let stride = layout.stride();
        self.used = 0;
        for item in items {
            let Some((row, changed)) = item.update() else { continue };
            let index = self.find(layout, item.components);
            item.model = index as u32;
            let model = &mut self.list[index];
            model.count += 1;
            let row = &residuals[row as usize * stride..][..stride];
            for_each_bit(changed, |at| {
                model.nonzero[at] += 1;
                model.sum[at] += u64::from(row[at]);
            });
        }
        for model in &mut self.list[..self.used] {
            for_each_bit(model.present, |at| {
                if model.nonzero[at] * 4 > model.count {
                    model.hot |= 1 << at;
                    let code = Code::fit(
                        u64::from(model.count),
                        u64::from(model.nonzero[at]),
                        model.sum[at],
                    );
                    model.codes.push((at as u8, code));
                }
            });
        }
    }
}

impl Model {
    fn put(&mut self, bits: &mut BitWriter<'_>) {
        if self.told {
            return;
        }
        self.told = true;
        let mut codes = self.codes.iter();
        for_each_bit(self.present, |at| {
            let code = codes.as_slice().first().filter(|code| code.0 as usize == at);
            bits.put(u32::from(code.is_some()), 1);
            if let Some(&(_, code)) = code {
                codes.next();
                bits.put(u32::from(code.flagged), 1);
                bits.put(code.k, 4);
            }
        });
    }

    fn get(&mut self, bits: &mut BitReader<'_>) -> Result<(), SnapshotError> {
        if self.told {
            return Ok(());
        }
        self.told = true;
        let mut left = self.present;
        while let Some(at) = next_bit(&mut left) {
            if bits.get(1)? == 1 {
                self.hot |= 1 << at;
                self.codes.push((at as u8, Code { flagged: bits.get(1)? == 1, k: bits.get(4)? }));
            }
        }
        Ok(())
    }
}

#[inline]
fn next_bit(mask: &mut u128) -> Option<usize> {
    let at = mask.trailing_zeros() as usize;
    *mask &= mask.wrapping_sub(1);
    (at < 128).then_some(at)
}

#[inline]
fn for_each_bit(mask: u128, mut f: impl FnMut(usize)) {
    // In halves: arithmetic on words is several times faster, and the upper half is mostly empty.
    for (mut half, first) in [(mask as u64, 0), ((mask >> 64) as u64, 64)] {
        while half != 0 {
            f(first + half.trailing_zeros() as usize);
            half &= half - 1;
        }
    }
}

/// Writes which of `0..len` are in a set, as the distances between the members or, if those are
/// more than half, between the others.
fn put_set(len: usize, members: usize, contains: impl Fn(usize) -> bool, bits: &mut BitWriter<'_>) {
    if len == 0 {
        return;
    }
    let inverse = members * 2 > len;
    let listed = if inverse { len - members } else { members };
    let k = parameter((len - listed) as u64, listed as u64 + 1);
    bits.put(u32::from(inverse), 1);
    bits.put(k, 4);
    let mut next = 0;
    for at in (0..len).filter(|&at| contains(at) != inverse) {
        bits.rice((at - next) as u32, k);
        next = at + 1;
    }
    if next < len {
        bits.rice((len - next) as u32, k);
    }
}

/// Reads a set of `0..len` into `set`, which is replaced.
fn get_set(len: usize, bits: &mut BitReader<'_>, set: &mut Vec<bool>) -> Result<(), SnapshotError> {
    set.clear();
    if len == 0 {
        return Ok(());
    }
    let inverse = bits.get(1)? == 1;
    let k = bits.get(4)?;
    while set.len() < len {
        let gap = bits.rice(k)? as usize;
        if gap > len - set.len() {
            return Err(SnapshotError::Malformed("a member behind the end of a set"));
        }
        set.resize(set.len() + gap, inverse);
        if set.len() < len {
            set.push(!inverse);
        }
    }
    Ok(())
}

/// The most bits that one more member takes in the sets that name it.
pub(crate) fn set_bits(known: usize, changes: usize) -> usize {
    2 * (1 + parameter(known.saturating_sub(changes) as u64, changes as u64 + 1) as usize)
}

/// Appends the body and notes what each item took. `items` are those of known entities ascending,
/// then new ones ascending by slot; `rows` is the view, row by row.
pub(crate) fn encode(
    layout: &Layout,
    models: &mut Models,
    known: usize,
    items: &mut [Item],
    residuals: &[u32],
    rows: &[u32],
    out: &mut Vec<u8>,
) {
    debug_assert!(
        items.is_sorted_by_key(|item| (item.known.is_none(), item.slot)),
        "known entities come first, then new ones, both ascending"
    );
    debug_assert!(items.iter().filter_map(|item| item.known).all(|at| (at as usize) < known));
    let stride = layout.stride();
    let row = |item: &Item| &rows[item.view as usize * stride..][..stride];
    let mut bits = BitWriter::new(out);
    models.restart();

    // Per known entity: 0 stays, 1 changes, 2 changes in rare columns, 3 goes.
    let mut states = std::mem::take(&mut models.states);
    states.clear();
    states.resize(known, 0);
    let (mut gone, mut changed, mut rare) = (0, 0, 0);
    for item in items.iter().filter(|item| !item.deferred) {
        let Some(at) = item.known else { break };
        states[at as usize] = match item.update() {
            None => 3,
            Some((_, columns)) => {
                1 + u8::from(columns & !models.list[item.model as usize].hot != 0)
            }
        };
        match states[at as usize] {
            3 => gone += 1,
            state => (changed, rare) = (changed + 1, rare + usize::from(state == 2)),
        }
    }
    put_set(known, gone, |at| states[at] == 3, &mut bits);
    for item in items
        .iter_mut()
        .filter(|item| !item.deferred && item.known.is_some() && item.update().is_none())
    {
        let before = bits.position();
        bits.put(u32::from(item.change == Change::Replace), 1);
        if item.change == Change::Replace {
            bits.rice(item.generation.wrapping_sub(item.predecessor), SUCCESSOR_K);
            entity(layout, item.components, row(item), &mut bits);
        }
        item.cost = (bits.position() - before) as u32;
    }
    states.retain(|&state| state != 3);
    put_set(states.len(), changed, |at| states[at] != 0, &mut bits);
    states.retain(|&state| state != 0);
    put_set(states.len(), rare, |at| states[at] == 2, &mut bits);
    models.states = states;
    for item in items.iter_mut() {
        let Some((row, changed)) = item.update() else { continue };
        let model = &mut models.list[item.model as usize];
        model.put(&mut bits);
        let before = bits.position();
        let row = &residuals[row as usize * stride..][..stride];
        model.codes.iter().for_each(|&(at, code)| code.put(row[at as usize], &mut bits));
        if changed & !model.hot != 0 {
            for_each_bit(model.present & !model.hot, |at| {
                let set = changed & (1 << at) != 0;
                bits.put(u32::from(set), 1);
                if set {
                    bits.rice(row[at] - 1, RARE_K);
                }
            });
        }
        item.cost = (bits.position() - before) as u32;
    }

    let new = items.iter().filter(|item| !item.deferred && item.known.is_none()).count();
    bits.rice(new as u32, COUNT_K);
    let mut next = 0;
    for item in items.iter_mut().filter(|item| !item.deferred && item.known.is_none()) {
        let before = bits.position();
        bits.rice(item.slot - next, SLOT_K);
        next = item.slot.wrapping_add(1);
        let width = 32 - item.generation.leading_zeros();
        bits.put(width, 6);
        bits.put(item.generation, width);
        entity(layout, item.components, row(item), &mut bits);
        item.cost = (bits.position() - before) as u32;
    }
    bits.finish();
}

fn entity(layout: &Layout, components: u32, row: &[u32], bits: &mut BitWriter<'_>) {
    bits.put(components, layout.components);
    for_each_bit(layout.present(components), |at| {
        bits.put(u32::from(row[at] != 0), 1);
        if row[at] != 0 {
            bits.put(row[at], layout.columns[at].bits);
        }
    });
}

/// What the decoder tells its caller: known entities ascending, then new entities ascending.
pub(crate) trait Sink {
    /// The components of a known entity.
    fn components(&self, known: usize) -> u32;
    /// The generation of a known entity.
    fn generation(&self, known: usize) -> u32;
    /// A known entity stays as it is.
    fn keep(&mut self, known: usize);
    /// A known entity changed: `row` are residuals.
    fn update(&mut self, known: usize, row: &[u32]);
    /// A known entity is gone.
    fn remove(&mut self, known: usize);
    /// Another entity stands in the slot of a known one.
    fn replace(&mut self, known: usize, generation: u32, components: u32, row: &[u32]);
    /// A new entity.
    fn insert(
        &mut self,
        slot: u32,
        generation: u32,
        components: u32,
        row: &[u32],
    ) -> Result<(), SnapshotError>;
}

/// Reads a body against `known` entities.
pub(crate) fn decode(
    layout: &Layout,
    known: usize,
    bytes: &[u8],
    sink: &mut impl Sink,
) -> Result<(), SnapshotError> {
    let mut bits = BitReader::new(bytes);
    let mut row = vec![0; layout.stride()];
    let (mut gone, mut changed, mut rare) = (Vec::new(), Vec::new(), Vec::new());
    get_set(known, &mut bits, &mut gone)?;
    // Replacements stand before the updates in the stream, but between them in the list.
    let mut successors = Vec::new();
    for at in (0..known).filter(|&at| gone[at]) {
        if bits.get(1)? == 1 {
            let generation = sink.generation(at).wrapping_add(bits.rice(SUCCESSOR_K)?);
            let components = read_entity(layout, &mut row, &mut bits)?;
            successors.push((at, generation, components, row.clone()));
        }
    }
    let staying = known - gone.iter().filter(|&&gone| gone).count();
    get_set(staying, &mut bits, &mut changed)?;
    get_set(changed.iter().filter(|&&changed| changed).count(), &mut bits, &mut rare)?;
    let mut models = Models::default();
    let (mut successors, mut changed, mut rare) =
        (successors.into_iter().peekable(), changed.into_iter(), rare.into_iter());
    for (at, gone) in gone.into_iter().enumerate() {
        if gone {
            match successors.next_if(|successor| successor.0 == at) {
                Some((_, generation, components, row)) => {
                    sink.replace(at, generation, components, &row)
                }
                None => sink.remove(at),
            }
        } else if changed.next() == Some(true) {
            let index = models.find(layout, sink.components(at));
            let model = &mut models.list[index];
            model.get(&mut bits)?;
            row.fill(0);
            for &(at, code) in &model.codes {
                row[at as usize] = code.get(&mut bits)?;
            }
            if rare.next() == Some(true) {
                let mut left = model.present & !model.hot;
                while let Some(at) = next_bit(&mut left) {
                    if bits.get(1)? == 1 {
                        row[at] = bits.rice(RARE_K)?.wrapping_add(1);
                    }
                }
            }
            sink.update(at, &row);
        } else {
            sink.keep(at);
        }
    }
    let new = bits.rice(COUNT_K)?;
    let mut next = Some(0u32);
    for _ in 0..new {
        let gap = bits.rice(SLOT_K)?;
        let slot = next
            .and_then(|next| next.checked_add(gap))
            .ok_or(SnapshotError::Malformed("a slot above 32 bits"))?;
        next = slot.checked_add(1);
        let width = bits.get(6)?;
        if width > 32 {
            return Err(SnapshotError::Malformed("a generation above 32 bits"));
        }
        let generation = bits.get(width)?;
        let components = read_entity(layout, &mut row, &mut bits)?;
        sink.insert(slot, generation, components, &row)?;
    }
    if bits.at_end() {
        Ok(())
    } else {
        Err(SnapshotError::Malformed("bits behind the last entity"))
    }
}

fn read_entity(
    layout: &Layout,
    row: &mut [u32],
    bits: &mut BitReader<'_>,
) -> Result<u32, SnapshotError> {
    row.fill(0);
    let components = bits.get(layout.components)?;
    let mut left = layout.present(components);
    while let Some(at) = next_bit(&mut left) {
        if bits.get(1)? == 1 {
            row[at] = bits.get(layout.columns[at].bits)?;
        }
    }
    Ok(components)
}
