//! Client for systemd's D-Bus interface: calls, properties and jobs.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;

use futures_core::Stream;
use serde::Serialize;
use zbus::message::Type;
use zbus::{
    AsyncDrop, Connection, DynamicType, Error, MatchRule, Message, MessageStream, ObjectPath,
    OwnedObjectPath, OwnedVariant,
};

const BUS_NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
pub(super) const TIMER_INTERFACE: &str = "org.freedesktop.systemd1.Timer";
pub(super) const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";

/// Capacity for unread signals; systemd sends one for each job that ends anywhere on the host.
const SIGNAL_QUEUE: NonZeroUsize = NonZeroUsize::new(512).expect("512 is not zero");

pub(super) type Properties = HashMap<String, OwnedVariant>;

/// An open connection to systemd over the system bus. (systemd's private socket, which `systemctl` falls
/// back to, names its sender in a way that the D-Bus library rightly refuses.)
#[derive(Debug)]
pub(super) struct Bus {
    connection: Connection,
    /// systemd emits job signals only while a client is subscribed.
    is_subscribed: Cell<bool>,
}

impl Bus {
    pub(super) async fn open() -> zbus::Result<Bus> {
        Ok(Bus {
            connection: Connection::system().await?,
            is_subscribed: Cell::new(false),
        })
    }

    pub(super) async fn call_manager<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType,
    {
        self.connection
            .call_method(
                Some(BUS_NAME),
                MANAGER_PATH,
                Some(MANAGER_INTERFACE),
                method,
                body,
            )
            .await
    }

    /// The object of a unit; systemd loads its definition if needed.
    pub(super) async fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath> {
        self.call_manager("LoadUnit", &name)
            .await?
            .body()
            .deserialize()
    }

    /// The ids of the processes in the control group of a loaded unit.
    pub(super) async fn list_processes(&self, name: &str) -> zbus::Result<Vec<u32>> {
        let reply = self.call_manager("GetUnitProcesses", &name).await?;
        // Each with its control group and its command line.
        let processes: Vec<(String, u32, String)> = reply.body().deserialize()?;
        Ok(processes.into_iter().map(|(_, pid, _)| pid).collect())
    }

    pub(super) async fn get_properties(
        &self,
        unit: &OwnedObjectPath,
        interface: &str,
    ) -> zbus::Result<Properties> {
        let reply = self
            .connection
            .call_method(
                Some(BUS_NAME),
                ObjectPath::from(unit),
                Some("org.freedesktop.DBus.Properties"),
                "GetAll",
                &interface,
            )
            .await?;
        reply.body().deserialize()
    }

    /// Queues a job and waits for its result, in systemd's words: `done`, `failed`, `timeout`, `dependency`,
    /// … Has no deadline of its own.
    pub(super) async fn run_job(&self, method: &str, unit: &str) -> zbus::Result<String> {
        // Set before the answer, which may be late: systemd refuses a second call.
        if !self.is_subscribed.replace(true)
            && let Err(error) = self.call_manager("Subscribe", &()).await
        {
            self.is_subscribed.set(false);
            return Err(error);
        }
        // Before the call: a job can end before the reply to the call arrives.
        let mut ended = MessageStream::for_match_rule(
            job_removed_rule()?,
            &self.connection,
            Some(SIGNAL_QUEUE),
        )
        .await?;
        let result = async {
            let reply = self.call_manager(method, &(unit, "replace")).await?;
            let asked: OwnedObjectPath = reply.body().deserialize()?;
            loop {
                let next = poll_fn(|context| Pin::new(&mut ended).poll_next(context)).await;
                let message = next.ok_or_else(connection_closed)??;
                let body = message.body();
                let (_, job, _, result): (u32, OwnedObjectPath, String, String) =
                    body.deserialize()?;
                if job == asked {
                    return Ok(result);
                }
            }
        }
        .await;
        ended.async_drop().await;
        result
    }
}

fn job_removed_rule() -> zbus::Result<MatchRule<'static>> {
    MatchRule::builder()
        .msg_type(Type::Signal)
        // Any client may send a signal on the bus; only systemd's counts.
        .sender(BUS_NAME)
        .interface(MANAGER_INTERFACE)
        .member("JobRemoved")
        .path(MANAGER_PATH)
        .build()
}

fn connection_closed() -> Error {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}
