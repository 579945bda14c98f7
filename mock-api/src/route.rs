//! Which record or list a path names.

use crate::entity::{Entity, Product};
use crate::spec::{Nested, Spec};

/// What a path names.
pub(crate) struct Route {
    pub(crate) product: Product,
    pub(crate) place: Place,
    /// The path with ids replaced.
    pub(crate) template: String,
}

/// A place in the tree of resources.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Organisation,
    List(&'static Spec),
    One(&'static Spec, u64),
    Nested(&'static Spec, u64, &'static Nested),
    NestedOne(&'static Spec, u64, &'static Nested, u64),
}

impl Route {
    /// `None` for a path that does not exist.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let [product, "v2", rest @ ..] = segments.as_slice() else {
            return None;
        };
        let product = Product::of_path(product)?;
        let root = format!("/{}/v2", product.path());
        let (place, template) = match rest {
            [] => (Place::Organisation, root),
            [collection] => {
                let spec = collection_of(product, collection)?;
                let listed = spec.product == product;
                (
                    Place::List(listed.then_some(spec)?),
                    format!("{root}/{collection}"),
                )
            }
            [collection, id] => {
                let spec = collection_of(product, collection)?;
                let listed = spec.product == product;
                let place = Place::One(listed.then_some(spec)?, id.parse().ok()?);
                (place, format!("{root}/{collection}/{{id}}"))
            }
            [collection, id, name] => {
                let (spec, nested) = nested_of(product, collection, name)?;
                let place = Place::Nested(spec, id.parse().ok()?, nested);
                (place, format!("{root}/{collection}/{{id}}/{name}"))
            }
            [collection, id, name, nested_id] => {
                let (spec, nested) = nested_of(product, collection, name)?;
                let place =
                    Place::NestedOne(spec, id.parse().ok()?, nested, nested_id.parse().ok()?);
                (place, format!("{root}/{collection}/{{id}}/{name}/{{id}}"))
            }
            _ => return None,
        };
        Some(Self {
            product,
            place,
            template,
        })
    }

    /// The kind of record that an answer is about.
    pub(crate) fn entity(&self) -> Option<Entity> {
        match self.place {
            Place::Organisation => None,
            Place::List(spec) | Place::One(spec, _) => Some(spec.entity),
            Place::Nested(_, _, nested) | Place::NestedOne(_, _, nested, _) => Some(nested.entity),
        }
    }
}

/// The rules of a top-level collection. The groups product knows people by the same ids, only as parents.
fn collection_of(product: Product, name: &str) -> Option<&'static Spec> {
    let entity = Entity::ALL.into_iter().find(|entity| {
        let spec = entity.spec();
        let home = spec.product == product || *entity == Entity::Person;
        spec.collection == name && spec.parent.is_none() && home
    });
    entity.map(Entity::spec)
}

fn nested_of(
    product: Product,
    collection: &str,
    name: &str,
) -> Option<(&'static Spec, &'static Nested)> {
    let spec = collection_of(product, collection)?;
    let nested = spec.nested(name)?;
    (nested.entity.spec().product == product).then_some((spec, nested))
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn memberships_are_found_only_beneath_groups_and_people() {
        for (path, exists) in [
            ("/groups/v2/groups/1/memberships", true),
            ("/groups/v2/people/1/memberships", true),
            ("/groups/v2/memberships", false),
            ("/groups/v2/people", false),
            ("/people/v2/people/1/memberships", false),
            ("/people/v2/household_memberships", false),
            ("/people/v2/households/1/household_memberships/2", true),
            ("/people/v2/people/abc", false),
            ("/people/v1/people", false),
        ] {
            assert_eq!(Route::parse(path).is_some(), exists, "{path}");
        }
    }
}
