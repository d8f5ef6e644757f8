/** What the HTTP API can be asked, as nouns and verbs: read from its own description, so a new group is a new noun. Pure. */
import { openApi } from "#schema/openapi.ts"
import { Option, Schema } from "effect"

/** Something that a caller may say: a parameter or a field of the body. */
export interface Input {
  /** As the API calls it. */
  readonly name: string
  readonly place: "path" | "query" | "body"
  readonly type: "string" | "number" | "boolean" | "list" | "object"
  readonly isNullable: boolean
  readonly isRequired: boolean
  readonly choices: ReadonlyArray<string>
  readonly description: string
}

export interface Operation {
  readonly group: string
  readonly verb: string
  readonly method: string
  readonly path: string
  readonly summary: string
  readonly inputs: ReadonlyArray<Input>
}

const Json = Schema.Record(Schema.String, Schema.Unknown)
type Json = typeof Json.Type

const isJson = Schema.is(Json)
const at = (value: unknown, ...path: ReadonlyArray<string>): unknown =>
  path.reduce((found: unknown, name) => isJson(found) ? found[name] : undefined, value)
const list = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []
const text = (value: unknown): string => typeof value === "string" ? value : ""

const verbs: Readonly<Record<string, string>> = { remove: "delete", put: "create" }

export const operations = (): ReadonlyArray<Operation> => {
  const document: unknown = openApi()
  const paths = at(document, "paths")
  return Object.entries(isJson(paths) ? paths : {}).flatMap(([path, methods]) =>
    Object.entries(isJson(methods) ? methods : {}).map(([method, operation]) => {
      const [group = "", name = ""] = text(at(operation, "operationId")).split(".")
      return {
        group,
        verb: kebab(verbs[name] ?? name),
        method: method.toUpperCase(),
        path,
        summary: text(at(operation, "summary")),
        inputs: [...list(at(operation, "parameters")).flatMap(parameter(document)), ...bodyOf(document, operation)]
      }
    })
  )
}

/** `listenPort` → `listen-port` */
export const kebab = (name: string): string =>
  name.replaceAll(/(?<=[a-z0-9])[A-Z]/gu, (letter) => `-${letter}`).toLowerCase()

const parameter = (document: unknown) => (given: unknown): ReadonlyArray<Input> => {
  const place = at(given, "in")
  if (place !== "path" && place !== "query") return []
  return [{
    name: text(at(given, "name")),
    place,
    isRequired: at(given, "required") === true,
    ...shapeOf(document, at(given, "schema"))
  }]
}

function bodyOf(document: unknown, operation: unknown): ReadonlyArray<Input> {
  const schema = resolve(document, at(operation, "requestBody", "content", "application/json", "schema"))
  const required = list(at(schema, "required"))
  const properties = at(schema, "properties")
  return Object.entries(isJson(properties) ? properties : {}).map(([name, property]) => ({
    name,
    place: "body" as const,
    isRequired: required.includes(name),
    ...shapeOf(document, property)
  }))
}

function shapeOf(document: unknown, given: unknown): Pick<Input, "type" | "isNullable" | "choices" | "description"> {
  const schema = resolve(document, given)
  const options = list(at(schema, "anyOf")).map((option) => resolve(document, option))
  const own = options.find((option) => at(option, "type") !== "null") ?? schema
  const type = at(own, "type")
  return {
    type: type === "integer" || type === "number"
      ? "number"
      : type === "boolean"
      ? "boolean"
      : type === "array"
      ? "list"
      : type === "object"
      ? "object"
      : "string",
    isNullable: options.some((option) => at(option, "type") === "null"),
    choices: list(at(own, "enum")).filter((choice) => typeof choice === "string"),
    description: firstSentence(text(at(schema, "description")) || text(at(own, "description")))
  }
}

/** References are one step deep, into the document's components. */
function resolve(document: unknown, schema: unknown): unknown {
  const reference = Option.fromNullishOr(/^#\/components\/schemas\/(.+)$/u.exec(text(at(schema, "$ref")))?.[1])
  return Option.isSome(reference) ? at(document, "components", "schemas", reference.value) : schema
}

function firstSentence(description: string): string {
  return description.replace(/[.;:] .*$/su, "").replace(/\.$/u, "").replaceAll("`", "")
}
