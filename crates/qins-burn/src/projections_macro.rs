//! A macro that implements [`Projections`](crate::Projections).

/// Implements [`Projections`](crate::Projections) for a module: each field of it with its role, a [`LinearKind`](crate::LinearKind).
///
/// `field: Role` is a [`Projection`](crate::Projection), `field?: Role` an optional one; `field` alone is a module that implements
/// `Projections` itself, and `field[..]` a list of such. Fields that are not listed are ignored.
///
/// ```
/// use burn::module::Module;
/// use qins_burn::{EncodeOptions, FloatDtype, Projection, Scheme, Targets, convert_linear_to_qins, projections};
///
/// #[derive(Module, Debug)]
/// struct Layer {
///     q_proj: Projection,
///     down: Projection,
/// }
///
/// #[derive(Module, Debug)]
/// struct MyModule {
///     layers: Vec<Layer>,
///     head: Option<Projection>,
/// }
///
/// projections!(Layer { q_proj: Q, down: Down });
/// projections!(MyModule { layers[..], head?: Other });
///
/// let device = qins_burn::Backend::default().device()?;
/// let plain = || Projection::plain(&[0.5; 64 * 32], [64, 32], FloatDtype::F32, &device);
/// let layer = || Layer { q_proj: plain(), down: plain() };
/// let mut model = MyModule { layers: vec![layer(), layer()], head: Some(plain()) };
/// let report = convert_linear_to_qins(&mut model, &Targets::Safe, Scheme::Q4, &EncodeOptions::default())?;
/// assert_eq!(report.encoded, ["model.layers.0.down", "model.layers.1.down", "model.head"]);
/// assert_eq!(report.plain, ["model.layers.0.q_proj", "model.layers.1.q_proj"]);
/// # Ok::<(), qins_burn::Error>(())
/// ```
#[macro_export]
macro_rules! projections {
    ($module:ty { $($fields:tt)* }) => {
        impl $crate::Projections for $module {
            fn visit_projections(
                &mut self,
                name: &::core::primitive::str,
                visit: &mut $crate::Visit<'_>,
            ) -> ::core::result::Result<(), $crate::Error> {
                $crate::projections!(@fields self, name, visit, $($fields)*);
                ::core::result::Result::Ok(())
            }
        }
    };
    (@fields $self:ident, $name:ident, $visit:ident $(,)?) => {};
    (@fields $self:ident, $name:ident, $visit:ident, $field:ident: $kind:ident $(, $($rest:tt)*)?) => {
        let path = ::std::format!("{}.{}", $name, ::core::stringify!($field));
        $visit($crate::LinearKind::$kind, &path, &mut $self.$field)?;
        $crate::projections!(@fields $self, $name, $visit, $($($rest)*)?);
    };
    (@fields $self:ident, $name:ident, $visit:ident, $field:ident?: $kind:ident $(, $($rest:tt)*)?) => {
        if let ::core::option::Option::Some(projection) = &mut $self.$field {
            let path = ::std::format!("{}.{}", $name, ::core::stringify!($field));
            $visit($crate::LinearKind::$kind, &path, projection)?;
        }
        $crate::projections!(@fields $self, $name, $visit, $($($rest)*)?);
    };
    (@fields $self:ident, $name:ident, $visit:ident, $field:ident[..] $(, $($rest:tt)*)?) => {
        for (i, module) in $self.$field.iter_mut().enumerate() {
            let path = ::std::format!("{}.{}.{i}", $name, ::core::stringify!($field));
            $crate::Projections::visit_projections(module, &path, &mut *$visit)?;
        }
        $crate::projections!(@fields $self, $name, $visit, $($($rest)*)?);
    };
    (@fields $self:ident, $name:ident, $visit:ident, $field:ident $(, $($rest:tt)*)?) => {
        let path = ::std::format!("{}.{}", $name, ::core::stringify!($field));
        $crate::Projections::visit_projections(&mut $self.$field, &path, &mut *$visit)?;
        $crate::projections!(@fields $self, $name, $visit, $($($rest)*)?);
    };
}
