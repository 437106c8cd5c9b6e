//! The control packet (RFC 5880 section 4.1), and the checks of section 6.8.6 that need no session.

use std::num::NonZeroU32;
use std::time::Duration;

/// Octets of a packet without authentication, the only kind we send.
const LENGTH: u8 = 24;
/// The shortest packet with an authentication section.
const LENGTH_WITH_AUTHENTICATION: u8 = 26;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A session's state as one side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Held down by the operator.
    AdminDown,
    /// Nothing is heard of the other side.
    Down,
    /// The other side is heard.
    Init,
    /// Both sides hear each other.
    Up,
}

impl State {
    /// As BIRD shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        }
    }

    fn bits(self) -> u8 {
        match self {
            State::AdminDown => 0,
            State::Down => 1,
            State::Init => 2,
            State::Up => 3,
        }
    }

    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }
}

/// Why a session left the state Up last: five bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// None.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// Nothing was heard for the detection time.
    pub const TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// The other side said that it is down.
    pub const NEIGHBOR_DOWN: Diagnostic = Diagnostic(3);
    /// The operator took it down.
    pub const ADMINISTRATIVE: Diagnostic = Diagnostic(7);

    /// The number on the wire, 0 to 31.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The RFC's words.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            0 => "No diagnostic",
            1 => "Control detection time expired",
            2 => "Echo function failed",
            3 => "Neighbor signaled session down",
            4 => "Forwarding plane reset",
            5 => "Path down",
            6 => "Concatenated path down",
            7 => "Administratively down",
            8 => "Reverse concatenated path down",
            _ => "Unknown diagnostic",
        }
    }
}

/// A control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session left Up last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: answer at once.
    pub poll: bool,
    /// F: this is the answer.
    pub r#final: bool,
    /// C: the sender's BFD survives what ends its control plane.
    pub control_plane_independent: bool,
    /// D: the sender wants no periodic packets while both sides are up.
    pub demand: bool,
    /// Packets missed before the sender is down; not zero.
    pub detect_mult: u8,
    /// The sender's name for the session.
    pub my_discriminator: NonZeroU32,
    /// Our name for it, as far as the sender knows.
    pub your_discriminator: Option<NonZeroU32>,
    /// The sender does not send more often. Whole microseconds of 32 bits, as the two that follow.
    pub desired_min_tx: Duration,
    /// The sender does not want to be sent to more often; zero: not at all.
    pub required_min_rx: Duration,
    /// The sender takes echo packets so often; zero: none.
    pub required_min_echo_rx: Duration,
}

/// Why octets are no packet that may be looked at (RFC 5880 section 6.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer octets than the mandatory section has.
    #[error("{0} octets are too few")]
    Short(usize),
    /// Another version.
    #[error("version {0} is not 1")]
    Version(u8),
    /// The length field is less than what its flags need, or more than there is.
    #[error("the length field says {said}, there are {there} octets")]
    Length {
        /// The field.
        said: u8,
        /// The octets.
        there: usize,
    },
    /// The detection multiplier is zero.
    #[error("the detection multiplier is zero")]
    ZeroMultiplier,
    /// The multipoint bit is set.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// The sender's discriminator is zero.
    #[error("the sender's discriminator is zero")]
    ZeroDiscriminator,
    /// A sender that knows no discriminator of ours cannot be in this state.
    #[error("state {} without our discriminator", .0.as_str())]
    StateWithoutSession(State),
    /// Authentication, which is not in use.
    #[error("authenticated, and authentication is not in use")]
    Authentication,
}

impl Packet {
    /// Reads a packet. Octets behind the length it says are ignored, as the RFC wants it.
    ///
    /// # Errors
    /// Why it must be discarded.
    pub fn decode(octets: &[u8]) -> Result<Packet, DecodeError> {
        let there = octets.len();
        let Some((fixed, _)) = octets.split_first_chunk::<{ LENGTH as usize }>() else {
            return Err(DecodeError::Short(there));
        };
        let [first, flags, detect_mult, said, rest @ ..] = *fixed;
        let version = first >> 5;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let authenticated = flags & AUTHENTICATION != 0;
        let least = if authenticated {
            LENGTH_WITH_AUTHENTICATION
        } else {
            LENGTH
        };
        if said < least || usize::from(said) > there {
            return Err(DecodeError::Length { said, there });
        }
        if detect_mult == 0 {
            return Err(DecodeError::ZeroMultiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(DecodeError::Multipoint);
        }
        let [my, your, tx, rx, echo] = words(rest);
        let my_discriminator = NonZeroU32::new(my).ok_or(DecodeError::ZeroDiscriminator)?;
        let your_discriminator = NonZeroU32::new(your);
        let state = State::from_bits(flags >> 6);
        if your_discriminator.is_none() && matches!(state, State::Init | State::Up) {
            return Err(DecodeError::StateWithoutSession(state));
        }
        if authenticated {
            return Err(DecodeError::Authentication);
        }
        Ok(Packet {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            poll: flags & POLL != 0,
            r#final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            detect_mult,
            my_discriminator,
            your_discriminator,
            desired_min_tx: Duration::from_micros(tx.into()),
            required_min_rx: Duration::from_micros(rx.into()),
            required_min_echo_rx: Duration::from_micros(echo.into()),
        })
    }

    /// The octets of the packet. Times that do not fit are cut to the most that does.
    pub fn encode(&self) -> [u8; LENGTH as usize] {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let mut octets = [0; LENGTH as usize];
        let flags = self.state.bits() << 6
            | bit(self.poll, POLL)
            | bit(self.r#final, FINAL)
            | bit(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.demand, DEMAND);
        let head = [VERSION << 5 | self.diagnostic.0, flags, self.detect_mult, LENGTH];
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, NonZeroU32::get),
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            micros(self.required_min_echo_rx),
        ];
        let all = head.into_iter().chain(words.into_iter().flat_map(u32::to_be_bytes));
        for (place, octet) in octets.iter_mut().zip(all) {
            *place = octet;
        }
        octets
    }
}

fn words(octets: [u8; 20]) -> [u32; 5] {
    let mut words = [0; 5];
    for (word, chunk) in words.iter_mut().zip(octets.chunks_exact(4)) {
        *word = chunk.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
    }
    words
}
