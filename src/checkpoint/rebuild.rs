//! The calls of a pickle: eight known functions that arrange values; everything else stays an opaque value.

use crate::checkpoint::pickle::{global, text, Array, Id, Machine, Node, View};
use crate::error::Result;

/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;
/// The place of `None`, for a type that was not given its byte order.
const NO_ORDER: Id = 0;
/// The first part of the names of all classes of TorchScript.
const TORCHSCRIPT: &str = "__torch__.";
/// How deep `_rebuild_from_type_v2` may nest.
const DEEPEST_CALL: usize = 4;

impl Machine<'_> {
    /// BINPERSID: the tuple ('storage', class, key, device, number of elements).
    pub(super) fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.tuple(id) {
            Some([tag, class, key, _device, count]) if text(&self.nodes, *tag) == Some("storage") => {
                let count = self.whole(*count);
                count.map(|count| Node::Storage { class: *class, key: *key, count })
            }
            _ => None,
        };
        let Some(storage) = storage else { return self.fault("a storage is not described as PyTorch does") };
        self.push(storage);
        Ok(())
    }

    /// The value of a call: one of the eight known functions, or an opaque value.
    pub(super) fn call(&mut self, callable: Id, arguments: Id, depth: usize) -> Result<Id> {
        let arguments: Vec<Id> = self.tuple(arguments).unwrap_or_default().iter().take(8).copied().collect();
        let node = match (global(&self.nodes, callable), &arguments[..]) {
            (Some(("collections", "OrderedDict")), entries) => self.ordered(entries.first().copied())?,
            (
                Some(("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2")),
                [storage, offset, shape, stride, ..],
            ) => self.tensor(*storage, *offset, *shape, *stride)?,
            (Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")), [data, ..]) => {
                return Ok(*data)
            }
            (Some(("torch._tensor", "_rebuild_from_type_v2")), [function, _type, inner, ..])
                if depth < DEEPEST_CALL =>
            {
                return self.call(*function, *inner, depth + 1)
            }
            (Some(("numpy", "dtype")), [code, ..]) => Node::Dtype(*code, NO_ORDER),
            (Some(("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct")), _) => Node::Array(None),
            (Some((module, _)), []) if module.starts_with(TORCHSCRIPT) => Node::Module(callable, None),
            _ => Node::Other(callable),
        };
        self.nodes.push(node);
        Ok(self.nodes.len() as Id - 1)
    }

    /// `OrderedDict(list of pairs)`.
    fn ordered(&mut self, entries: Option<Id>) -> Result<Node> {
        let Some(Node::List(entries)) = entries.and_then(|id| self.nodes.get(id as usize)) else {
            return Ok(Node::Dict(vec![]));
        };
        let Some(budget) = self.budget.checked_sub(entries.len()) else {
            return self.fault("one list is copied again and again");
        };
        let entries = entries.iter().filter_map(|entry| match self.nodes.get(*entry as usize) {
            Some(Node::Tuple(pair) | Node::List(pair)) => Some((*pair.first()?, *pair.get(1)?)),
            _ => None,
        });
        let node = Node::Dict(entries.collect());
        self.budget = budget;
        Ok(node)
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Result<Node> {
        let is_storage = matches!(self.nodes.get(storage as usize), Some(Node::Storage { .. }));
        let view = (self.whole(offset), self.sizes(shape), self.sizes(stride));
        match view {
            (Some(offset), Some(shape), Some(stride)) if is_storage && shape.len() == stride.len() => {
                Ok(Node::Tensor(Box::new(View { storage, offset, shape, stride })))
            }
            _ => self.fault("a tensor is not described as PyTorch does (a negative size, stride or offset?)"),
        }
    }

    /// BUILD: gives modules, and NumPy's types and arrays, their state; other objects have none here.
    pub(super) fn build(&mut self, object: Id, state: Id) {
        if let Some(Node::Module(_, attributes @ None)) = self.nodes.get_mut(object as usize) {
            *attributes = Some(state);
            return;
        }
        let state = self.tuple(state).unwrap_or_default();
        let node = match (self.nodes.get(object as usize), state) {
            (Some(Node::Dtype(code, _)), [_version, order, ..]) => Node::Dtype(*code, *order),
            (Some(Node::Array(None)), [_version, shape, dtype, fortran, data]) => {
                let Some(shape) = self.sizes(*shape) else { return };
                let fortran = !matches!(self.nodes.get(*fortran as usize), Some(Node::Bool(false)));
                Node::Array(Some(Box::new(Array { shape, dtype: *dtype, fortran, data: *data })))
            }
            _ => return,
        };
        if let Some(object) = self.nodes.get_mut(object as usize) {
            *object = node;
        }
    }

    fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.nodes.get(id as usize) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    fn whole(&self, id: Id) -> Option<u64> {
        match self.nodes.get(id as usize) {
            Some(Node::Int(value)) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        let items = self.tuple(id).filter(|items| items.len() <= MOST_DIMENSIONS)?;
        items.iter().map(|item| self.whole(*item)).collect()
    }
}
