/** Caches a value derived from an immutable object for as long as the object lives. */
export function memoize<Value extends object, Derived>(derive: (value: Value) => Derived): (value: Value) => Derived {
  const cache = new WeakMap<Value, Derived>()
  return (value) => {
    const cached = cache.get(value)
    if (cached !== undefined) return cached
    const derived = derive(value)
    cache.set(value, derived)
    return derived
  }
}
