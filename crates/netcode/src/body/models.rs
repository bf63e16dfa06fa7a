//! How residuals are coded: a model for each set of components, fitted to the residuals of one
//! snapshot by the encoder and told to the decoder.

use crate::bits::{BitReader, BitWriter, GetBits, PutBits};
use crate::body::item::Item;
use crate::layout::{Layout, MAX_COLUMNS};
use crate::snapshot::SnapshotError;

/// How the residuals of one column are coded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Code {
    pub(super) k: u32,
    /// One bit says whether the residual is 0; if not, one less follows.
    pub(super) flagged: bool,
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
    pub(super) fn put(self, value: u32, bits: &mut BitWriter<'_>) {
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
    pub(super) fn get(self, bits: &mut BitReader<'_>) -> Result<u32, SnapshotError> {
        if !self.flagged {
            return Ok(bits.rice(self.k)?);
        }
        Ok(if bits.get(1)? == 0 { 0 } else { bits.rice(self.k)?.wrapping_add(1) })
    }
}

/// How the residuals of entities with the same components are coded.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) components: u32,
    pub(super) present: u128,
    /// Columns that every update carries.
    pub(super) hot: u128,
    /// The same one by one, ascending, with their codes.
    pub(super) codes: Vec<(u8, Code)>,
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
    pub(super) list: Vec<Model>,
    used: usize,
    /// What becomes of each known entity, for [`encode`].
    pub(super) states: Vec<u8>,
}

/// The Rice parameter for `count` values that add up to `sum`.
pub(super) fn parameter(sum: u64, count: u64) -> u32 {
    // 0.7 is about ln 2: the best parameter for geometrically distributed values.
    let mean = sum * 7 / (count.max(1) * 10);
    if mean == 0 { 0 } else { (mean.ilog2() + 1).min(15) }
}

impl Models {
    /// Index of the model for `components`, made if there is none.
    #[inline]
    pub(super) fn find(&mut self, layout: &Layout, components: u32) -> usize {
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
    pub(super) fn restart(&mut self) {
        self.list.iter_mut().for_each(|model| model.told = false);
    }

    /// Fits the models to the residuals of `items`.
    pub(crate) fn fit(&mut self, layout: &Layout, items: &mut [Item], residuals: &[u32]) {
        let width = layout.width();
        self.used = 0;
        for item in items {
            let Some((row, changed)) = item.update() else { continue };
            let index = self.find(layout, item.components);
            item.model = index as u32;
            let model = &mut self.list[index];
            model.count += 1;
            let row = &residuals[row as usize * width..][..width];
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
    pub(super) fn put(&mut self, bits: &mut BitWriter<'_>) {
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

    pub(super) fn get(&mut self, bits: &mut BitReader<'_>) -> Result<(), SnapshotError> {
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
pub(super) fn next_bit(mask: &mut u128) -> Option<usize> {
    let at = mask.trailing_zeros() as usize;
    *mask &= mask.wrapping_sub(1);
    (at < 128).then_some(at)
}

#[inline]
pub(super) fn for_each_bit(mask: u128, mut f: impl FnMut(usize)) {
    // In halves: arithmetic on words is several times faster, and the upper half is mostly empty.
    for (mut half, first) in [(mask as u64, 0), ((mask >> 64) as u64, 64)] {
        while half != 0 {
            f(first + half.trailing_zeros() as usize);
            half &= half - 1;
        }
    }
}
