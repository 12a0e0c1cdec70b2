//! Test doubles that change some operations of a store.

use jiff::Timestamp;

use super::{Etag, GetOutcome, ObjectMeta, PutOutcome, Store, StoreError, WriteCondition};

/// A store whose operations are those of another one, except for those that it overrides. Name it by its
/// path: in scope, its methods collide with those of [`Store`].
pub(crate) trait StoreDouble {
    fn inner(&self) -> &dyn Store;

    fn address(&self) -> &str {
        self.inner().address()
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        self.inner().get(key, known)
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        self.inner().put(key, body, when)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner().list(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner().delete(key)
    }
}

impl<T: StoreDouble> Store for T {
    fn address(&self) -> &str {
        StoreDouble::address(self)
    }

    fn get(&self, key: &str, known: Option<&Etag>) -> Result<GetOutcome, StoreError> {
        StoreDouble::get(self, key, known)
    }

    fn put(
        &self,
        key: &str,
        body: &[u8],
        when: WriteCondition<'_>,
    ) -> Result<PutOutcome, StoreError> {
        StoreDouble::put(self, key, body, when)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        StoreDouble::list(self, prefix)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        StoreDouble::delete(self, key)
    }

    fn server_time(&self) -> Option<Timestamp> {
        self.inner().server_time()
    }
}
