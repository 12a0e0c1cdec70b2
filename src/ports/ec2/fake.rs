//! EC2 in memory, for tests of what uses it: one elastic IP and one private address.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::error::Refusal;
use super::{
    AllocationId, Association, Ec2, Ec2Error, ElasticIp, Filter, Instance, Interface, InterfaceId,
    Mode, ThisInstance,
};

/// What a call does instead of succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It succeeds.
    None,
    Throttled,
    Unauthorized,
    /// It succeeds, but the answer is lost.
    AnswerLost,
}

/// Gets the number of a call.
pub(crate) type CallHook = Box<dyn Fn(usize)>;

/// EC2 in memory.
#[derive(Default)]
pub(crate) struct FakeEc2 {
    /// Who has each address.
    pub holder: RefCell<Option<InterfaceId>>,
    /// What the next calls do; none left: they succeed.
    pub faults: RefCell<VecDeque<Fault>>,
    /// How many descriptions show the holder before the last change.
    pub lag: Cell<u32>,
    before: RefCell<Option<InterfaceId>>,
    /// All calls by name.
    pub calls: RefCell<Vec<&'static str>>,
    /// Runs at the beginning of each call, with its number.
    pub on_call: RefCell<Option<CallHook>>,
}

pub(crate) const THIS_INTERFACE: &str = "eni-0a";
pub(crate) const OTHER_INTERFACE: &str = "eni-0b";

impl FakeEc2 {
    /// The other instance has the addresses.
    pub(crate) fn new() -> FakeEc2 {
        FakeEc2 {
            holder: RefCell::new(OTHER_INTERFACE.parse().ok()),
            before: RefCell::new(OTHER_INTERFACE.parse().ok()),
            ..FakeEc2::default()
        }
    }

    pub(crate) fn with_faults(faults: impl IntoIterator<Item = Fault>) -> FakeEc2 {
        let fake = FakeEc2::new();
        fake.faults.borrow_mut().extend(faults);
        fake
    }

    /// Another instance takes the address, which so many descriptions do not show yet.
    pub(crate) fn show_late(&self, holder: Option<InterfaceId>, descriptions: u32) {
        self.before.replace(self.holder.replace(holder));
        self.lag.set(descriptions);
    }

    fn begin(&self, action: &'static str) -> Result<Fault, Ec2Error> {
        self.calls.borrow_mut().push(action);
        if let Some(on_call) = &*self.on_call.borrow() {
            on_call(self.calls.borrow().len());
        }
        let fault = self.faults.borrow_mut().pop_front();
        let refusal = |status, code: &str| Ec2Error::Refused {
            at: "fake".into(),
            action,
            refusal: Box::new(Refusal {
                status,
                code: code.into(),
                ..Refusal::default()
            }),
        };
        match fault.unwrap_or(Fault::None) {
            Fault::Throttled => Err(refusal(503, "RequestLimitExceeded")),
            Fault::Unauthorized => Err(refusal(403, "UnauthorizedOperation")),
            fault => Ok(fault),
        }
    }

    fn shown_holder(&self) -> Option<InterfaceId> {
        match self.lag.get() {
            0 => self.holder.borrow().clone(),
            lag => {
                self.lag.set(lag - 1);
                self.before.borrow().clone()
            }
        }
    }

    fn change(
        &self,
        action: &'static str,
        interface: &InterfaceId,
        mode: Mode,
    ) -> Result<(), Ec2Error> {
        let fault = self.begin(action)?;
        if mode == Mode::Execute {
            let before = self.holder.replace(Some(interface.clone()));
            self.before.replace(before);
        }
        match fault {
            Fault::AnswerLost => Err(Ec2Error::Unreachable {
                at: "fake".into(),
                action,
                why: "timed out after 6s".into(),
                hint: "",
            }),
            _ => Ok(()),
        }
    }
}

impl Ec2 for FakeEc2 {
    fn this_instance(&self) -> Result<ThisInstance, Ec2Error> {
        Ok(ThisInstance {
            id: "i-0a".parse().expect("an id"),
            interface: THIS_INTERFACE.parse().expect("an id"),
        })
    }

    fn instances(&self, _filters: &[Filter<'_>]) -> Result<Vec<Instance>, Ec2Error> {
        Ok(Vec::new())
    }

    fn elastic_ip(&self, id: &AllocationId) -> Result<ElasticIp, Ec2Error> {
        self.begin("DescribeAddresses")?;
        let interface = self.shown_holder();
        Ok(ElasticIp {
            allocation: id.clone(),
            public_address: Ipv4Addr::new(203, 0, 113, 9),
            instance: interface
                .as_ref()
                .and_then(|id| id.to_string().replace("eni-", "i-").parse().ok()),
            interface,
            private_address: None,
        })
    }

    fn associate(&self, association: &Association<'_>, mode: Mode) -> Result<(), Ec2Error> {
        self.change("AssociateAddress", association.interface, mode)
    }

    fn interfaces_with(&self, _address: Ipv4Addr) -> Result<Vec<Interface>, Ec2Error> {
        self.begin("DescribeNetworkInterfaces")?;
        let holder = self.shown_holder().into_iter();
        Ok(holder
            .map(|id| Interface {
                instance: id.to_string().replace("eni-", "i-").parse().ok(),
                id,
                vpc: "vpc-1".into(),
            })
            .collect())
    }

    fn assign(
        &self,
        interface: &InterfaceId,
        _address: Ipv4Addr,
        mode: Mode,
    ) -> Result<(), Ec2Error> {
        self.change("AssignPrivateIpAddresses", interface, mode)
    }
}
