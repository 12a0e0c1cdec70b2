//! Mutations of inputs.

/// Makes inputs from a corpus, the words of its language, and inputs accepted before.
pub(super) struct Mutator<'w> {
    state: u64,
    pool: Vec<Vec<u8>>,
    words: &'w [&'w str],
}

/// Numbers at limits.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e309",
    "0x7f",
    "-0",
    ".5",
    "NaN",
];

/// Characters with a meaning in some syntax.
const TEXTS: &[&str] = &[
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\0",
    "\u{feff}",
    "\u{1b}[31m",
    "\u{202e}",
    "ü",
    "\u{1f980}",
    "\u{2028}",
    "\\",
    "\"",
    "'",
    "\u{fffd}",
    "%",
    "#",
    "---\n",
    "...\n",
];

impl<'w> Mutator<'w> {
    const POOL: usize = 300;

    pub(super) fn new(seed: u64, pool: Vec<Vec<u8>>, words: &'w [&'w str]) -> Mutator<'w> {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Mutator { state, pool, words }
    }

    /// Adds an accepted input to the corpus.
    pub(super) fn learn(&mut self, input: Vec<u8>) {
        match self.pool.len() < Mutator::POOL {
            true => self.pool.push(input),
            false => {
                let at = self.below(self.pool.len());
                self.pool[at] = input;
            }
        }
    }

    pub(super) fn next(&mut self) -> Vec<u8> {
        let from = self.below(self.pool.len());
        let mut input = self.pool[from].clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut input);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.range(input);
        match self.below(11) {
            0 if from < input.len() => input[from] ^= 1 << self.below(8),
            1 if from < input.len() => input[from] = self.below(256) as u8,
            2 => drop(input.drain(from..to)),
            3 => {
                let piece = input[from..to].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, piece);
            }
            4 => {
                let other = self.below(self.pool.len());
                let other = self.pool[other].clone();
                let (start, end) = self.range(&other);
                input.splice(from..from, other[start..end].iter().copied());
            }
            5 => {
                let word = self.pick(self.words);
                input.splice(from..from, word.bytes());
            }
            6 => {
                let word = self.pick(self.words);
                input.splice(from..to, word.bytes());
            }
            7 => {
                let text = self.pick(TEXTS);
                input.splice(from..from, text.bytes());
            }
            8 => {
                let number = self.pick(NUMBERS);
                let digits = input.iter().skip(from).position(u8::is_ascii_digit);
                let start = digits.map_or(from, |digits| from + digits);
                let length = input[start..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                input.splice(start..start + length, number.bytes());
            }
            // Many copies, in sequence or nested.
            9 => {
                let piece = input[from..to.min(from + 40)].to_vec();
                let times = 1 << self.below(9);
                input.splice(from..from, piece.repeat(times));
            }
            _ => input.truncate(from),
        }
    }

    fn range(&mut self, input: &[u8]) -> (usize, usize) {
        let from = self.below(input.len() + 1);
        let most = 2 << self.below(7);
        let length = self.below(most);
        (from, (from + length).min(input.len()))
    }

    fn pick<'s>(&mut self, some: &[&'s str]) -> &'s str {
        let at = self.below(some.len());
        some[at]
    }

    /// xorshift64*: sufficient, and reproducible.
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        (random % limit.max(1) as u64) as usize
    }
}
