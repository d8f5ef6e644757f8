/** Patterns and templates of transcripts (README.md). Pure, except that a match adds captures. */

export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/** Captured values of a transcript, by name. */
export type Captures = Map<string, Json>

/**
 * Path and reason of the first mismatch; undefined if the value matches. A match adds its captures to `captures`. Inside one
 * pattern, a name still refers to the earlier capture.
 */
export const mismatch = (pattern: Json, value: Json | undefined, captures: Captures): string | undefined => {
  const scope: Scope = { known: captures, found: new Map() }
  const failure = mismatchAt("", pattern, value, scope)
  if (failure !== undefined) return failure
  for (const [name, found] of scope.found) captures.set(name, found)
  return undefined
}

interface Scope {
  readonly known: Captures
  readonly found: Captures
}

function mismatchAt(path: string, pattern: Json, value: Json | undefined, scope: Scope): string | undefined {
  if (pattern === "$absent") return value === undefined ? undefined : `${describePath(path)} should be absent`
  if (value === undefined) return `${describePath(path)} is missing`
  if (typeof pattern === "string") return mismatchText(path, pattern, value, scope)
  if (isList(pattern)) return mismatchList(path, pattern, value, scope)
  if (isObject(pattern)) {
    const [operator] = Object.keys(pattern)
    return operator?.startsWith("$") === true
      ? mismatchOperator(path, operator, pattern[operator] ?? null, value, scope)
      : mismatchObject(path, pattern, value, scope)
  }
  return pattern === value ? undefined : differs(pattern, value, path)
}

/** Replaces captured names in a template. Throws an `Error` with the name that was not captured. */
export const substitute = (template: Json, captures: Captures): Json => {
  if (typeof template === "string") return fillText(template, captures)
  if (isList(template)) return template.map((item) => substitute(item, captures))
  if (!isObject(template)) return template
  const { $plus, $repeat } = template
  if (isList($plus)) return $plus.reduce<number>((sum, part) => sum + Number(substitute(part, captures)), 0)
  if (isList($repeat)) return String($repeat[0]).repeat(Number($repeat[1]))
  return Object.fromEntries(Object.entries(template).map(([key, item]) => [key, substitute(item, captures)]))
}

export const isObject = (value: Json | undefined): value is { readonly [key: string]: Json } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Turns a single value, a list or undefined into a list. */
export const listOf = (value: Json | undefined): ReadonlyArray<Json> => {
  if (value === undefined) return []
  return isList(value) ? value : [value]
}

/** Own field of a value. Inherited properties such as `constructor` are not fields. */
const own = (value: { readonly [key: string]: Json }, key: string): Json | undefined =>
  Object.hasOwn(value, key) ? value[key] : undefined

const isList = (value: Json | undefined): value is ReadonlyArray<Json> => Array.isArray(value)

/** A `Map`, because a transcript may contain property names that every object has, such as `constructor` or `__proto__`. */
const kinds: ReadonlyMap<string, (value: Json) => boolean> = new Map([
  ["$any", () => true],
  ["$string", (value: Json) => typeof value === "string"],
  ["$int", (value: Json) => Number.isSafeInteger(value)],
  ["$number", (value: Json) => typeof value === "number"],
  ["$bool", (value: Json) => typeof value === "boolean"],
  ["$object", isObject],
  ["$array", isList]
])

function mismatchText(path: string, pattern: string, value: Json, scope: Scope): string | undefined {
  const capture = /^\$(\w+)=(.*)$/u.exec(pattern)
  if (capture !== null) {
    const [, name = "", inner = ""] = capture
    const failure = mismatchAt(path, inner, value, scope)
    if (failure === undefined) scope.found.set(name, value)
    return failure
  }
  const isKind = kinds.get(pattern)
  if (isKind !== undefined) return isKind(value) ? undefined : differs(pattern, value, path)
  const expected = fillText(pattern, scope.known)
  return sameJson(expected, value) ? undefined : differs(expected, value, path)
}

function mismatchList(path: string, pattern: ReadonlyArray<Json>, value: Json, scope: Scope): string | undefined {
  if (!isList(value)) return differs(pattern, value, path)
  if (value.length !== pattern.length)
    return `${describePath(path)} has ${value.length} items, expected ${pattern.length}`
  return firstMismatch(pattern.map((item, index) => () => mismatchAt(`${path}[${index}]`, item, value[index], scope)))
}

function mismatchObject(
  path: string,
  pattern: { readonly [key: string]: Json },
  value: Json,
  scope: Scope
): string | undefined {
  if (!isObject(value)) return differs(pattern, value, path)
  return firstMismatch(
    Object.entries(pattern).map(([key, item]) => () =>
      mismatchAt(path === "" ? key : `${path}.${key}`, item, own(value, key), scope)
    )
  )
}

function mismatchOperator(
  path: string,
  operator: string,
  operand: Json,
  value: Json,
  scope: Scope
): string | undefined {
  switch (operator) {
    case "$exactly":
      return mismatchObject(path, isObject(operand) ? operand : {}, value, scope) ?? unexpected(operand, value, path)
    case "$has":
      return firstMismatch(
        listOf(operand).map((item) => () => matchesAny(item, value, scope) ? undefined : lacks(item, path))
      )
    case "$hasNone":
      return firstMismatch(
        listOf(operand).map((item) => () => matchesAny(item, value, scope) ? holds(item, path) : undefined)
      )
    case "$oneOf":
      return listOf(operand).some((item) => mismatchAt(path, item, value, scope) === undefined)
        ? undefined
        : differs(operand, value, path)
    case "$above":
      return typeof value === "number" && value > Number(substitute(operand, scope.known))
        ? undefined
        : `${describePath(path)} is ${show(value)}, expected more than ${show(substitute(operand, scope.known))}`
    case "$contains":
      return typeof value === "string" && value.includes(String(substitute(operand, scope.known)))
        ? undefined
        : `${describePath(path)} is ${show(value)}, expected a text with ${show(operand)} in it`
    default:
      return `the pattern at ${describePath(path)} has the unknown operator ${operator}`
  }
}

function matchesAny(pattern: Json, value: Json, scope: Scope): boolean {
  return isList(value) && value.some((item) => mismatchAt("", pattern, item, scope) === undefined)
}

function unexpected(operand: Json, value: Json, path: string): string | undefined {
  if (!isObject(operand) || !isObject(value)) return undefined
  const extra = Object.keys(value).filter((key) => !Object.hasOwn(operand, key))
  return extra.length === 0
    ? undefined
    : `${describePath(path)} has fields that it should not have: ${extra.join(", ")}`
}

/** `$name` alone is replaced by the captured value, `${name}` inside a text by the value's text, and a leading `$$` by `$`. */
function fillText(text: string, captures: Captures): Json {
  if (text.startsWith("$$")) return text.slice(1)
  const captureName = /^\$(\w+)$/u.exec(text)?.[1]
  if (captureName !== undefined) return captured(captureName, captures)
  return text.replaceAll(/\$\{(\w+)\}/gu, (_, name: string) => {
    const value = captured(name, captures)
    return typeof value === "string" ? value : JSON.stringify(value)
  })
}

function captured(name: string, captures: Captures): Json {
  const value = captures.get(name)
  if (value === undefined) throw new Error(`nothing was captured as $${name}`)
  return value
}

function firstMismatch(checks: ReadonlyArray<() => string | undefined>): string | undefined {
  for (const check of checks) {
    const failure = check()
    if (failure !== undefined) return failure
  }
  return undefined
}

function sameJson(left: Json, right: Json): boolean {
  if (isList(left)) {
    return isList(right) && left.length === right.length &&
      left.every((item, index) => sameJson(item, right[index] ?? null))
  }
  if (!isObject(left)) return left === right
  if (!isObject(right) || Object.keys(left).length !== Object.keys(right).length) return false
  return Object.entries(left).every(([key, item]) => Object.hasOwn(right, key) && sameJson(item, right[key] ?? null))
}

function differs(expected: Json, value: Json, path: string): string {
  return `${describePath(path)} is ${show(value)}, expected ${show(expected)}`
}

function lacks(item: Json, path: string): string {
  return `${describePath(path)} has no item like ${show(item)}`
}

function holds(item: Json, path: string): string {
  return `${describePath(path)} has an item like ${show(item)}`
}

function describePath(path: string): string {
  return path === "" ? "it" : path
}

const maxQuotedLength = 160

function show(value: Json): string {
  const text = JSON.stringify(value)
  return text.length > maxQuotedLength ? `${text.slice(0, maxQuotedLength)}…` : text
}
