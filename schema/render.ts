/** What is published, made from the schemas: the protocol as a JSON Schema and as tables inside protocol.md, and the HTTP API. Pure. */
import { Schema, SchemaRepresentation } from "effect"
import { AgentMessage } from "./agent.ts"
import { closeCodes, errorCodes } from "./codes.ts"
import { ControlMessage } from "./control.ts"
import { GatewayMessage } from "./gateway.ts"
import { openApi } from "./openapi.ts"
import { sendersAt } from "./protocol.ts"

/** Path from the project's root → text, for every generated file; `page` is protocol.md as it is, whose prose is kept. */
export const renderAll = (page: string): Record<string, string> => ({
  "schema/generated/protocol.schema.json": `${JSON.stringify(jsonSchema(), null, 2)}\n`,
  "schema/generated/openapi.json": `${JSON.stringify(openApi(), null, 2)}\n`,
  "protocol.md": renderPage(page)
})

/** JSON Schema draft 2020-12: every message in `$defs`, and one `anyOf` for each direction. */
export const jsonSchema = () => {
  const { definitions, schemas } = SchemaRepresentation.toJsonSchemaMultiDocument(
    SchemaRepresentation.toRepresentations([AgentMessage.ast, GatewayMessage.ast, ControlMessage.ast], {
      referencePolicy: ({ identifier }) => identifier !== undefined && isNamed(identifier) ? identifier : undefined
    })
  )
  const [agent, gateway, control] = schemas
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Control protocol, plain level",
    description: "Every text frame on the socket is one of these. Unknown fields are to be ignored.",
    anyOf: [{ $ref: "#/$defs/ClientMessage" }, { $ref: "#/$defs/ControlMessage" }],
    $defs: {
      ClientMessage: { anyOf: [{ $ref: "#/$defs/AgentMessage" }, { $ref: "#/$defs/GatewayMessage" }] },
      AgentMessage: agent,
      GatewayMessage: gateway,
      ControlMessage: control,
      ...definitions
    }
  }
}

/** protocol.md with every `<!-- generated: NAME -->` block replaced. A block of an unknown name, or a missing one, throws. */
export const renderPage = (page: string): string => {
  const missing = new Set(Object.keys(blocks))
  const rendered = page.replace(
    /(<!-- generated: (\S+) -->\n)[^]*?(<!-- \/generated -->)/g,
    (_, open: string, name: string, close: string) => {
      const block = blocks[name]
      if (block === undefined) throw new Error(`protocol.md asks for a block that nobody renders: ${name}`)
      missing.delete(name)
      return `${open}<!-- dprint-ignore-start -->\n\n${block()}\n\n<!-- dprint-ignore-end -->\n${close}`
    }
  )
  if (missing.size > 0) throw new Error(`protocol.md has no block for: ${[...missing].join(", ")}`)
  return rendered
}

/** The part of JSON Schema that the messages use. */
interface Node {
  readonly $ref?: string
  readonly type?: string
  readonly title?: string
  readonly description?: string
  readonly examples?: ReadonlyArray<Schema.Json>
  readonly enum?: ReadonlyArray<string>
  readonly properties?: { readonly [name: string]: Node }
  readonly required?: ReadonlyArray<string>
  readonly items?: Node
  readonly anyOf?: ReadonlyArray<Node>
  readonly minLength?: number
  readonly maxLength?: number
  readonly maxItems?: number
}

const Node: Schema.Codec<Node> = Schema.Struct({
  $ref: Schema.optionalKey(Schema.String),
  type: Schema.optionalKey(Schema.String),
  title: Schema.optionalKey(Schema.String),
  description: Schema.optionalKey(Schema.String),
  examples: Schema.optionalKey(Schema.Array(Schema.Json)),
  enum: Schema.optionalKey(Schema.Array(Schema.String)),
  properties: Schema.optionalKey(Schema.Record(Schema.String, Schema.suspend(() => Node))),
  required: Schema.optionalKey(Schema.Array(Schema.String)),
  items: Schema.optionalKey(Schema.suspend(() => Node)),
  anyOf: Schema.optionalKey(Schema.Array(Schema.suspend(() => Node))),
  minLength: Schema.optionalKey(Schema.Number),
  maxLength: Schema.optionalKey(Schema.Number),
  maxItems: Schema.optionalKey(Schema.Number)
})

const definitions = Schema.decodeUnknownSync(Schema.Record(Schema.String, Node))(jsonSchema().$defs)

const blocks: Record<string, () => string> = {
  "client-messages": () => messagesOf("ClientMessage"),
  "control-messages": () => messagesOf("ControlMessage"),
  states: statesTable,
  "error-codes": () =>
    table(["code", "meaning"], Object.entries(errorCodes).map(([code, text]) => [quote(code), text])),
  "close-codes": () =>
    table(
      ["code", "meaning", "the client should"],
      Object.values(closeCodes)
        .toSorted((one, other) => one.code - other.code)
        .map(({ code, meaning, client }) => [String(code), meaning, client])
    )
}

/** What gets a name in `$defs`; the small words of the domain are written out where they are used, with what they mean there. */
function isNamed(identifier: string): boolean {
  return /^[a-z_]+$/u.test(identifier) || /^(?:Agent|Gateway)(?:Tunnel|Config)$|^ErrorCode$/u.test(identifier)
}

/** Follows references; what the reference itself says goes before what its target says. */
function resolve(node: Node): Node {
  if (node.$ref === undefined) return node
  const target = definitions[nameOf(node)]
  if (target === undefined) throw new Error(`no definition of ${node.$ref}`)
  const { $ref: _, ...own } = node
  return { ...resolve(target), ...own }
}

function nameOf(node: Node): string {
  return node.$ref?.slice("#/$defs/".length) ?? ""
}

/** The members of a union of messages by name, those of a nested union too, each once. */
function members(union: string): ReadonlyArray<string> {
  const names = (definitions[union]?.anyOf ?? []).map(nameOf)
  return [...new Set(names.flatMap((name) => definitions[name]?.anyOf === undefined ? [name] : members(name)))]
}

function messagesOf(union: string): string {
  return members(union).map((name) => messageSection(union, name)).join("\n\n")
}

function messageSection(union: string, name: string): string {
  const node = definitions[name]
  if (node === undefined) throw new Error(`no definition of ${name}`)
  const rows = fields(node.properties?.["data"] ?? {}, "")
  const examples = (node.examples ?? []).map((example) => `\`\`\`json\n${JSON.stringify(example, null, 2)}\n\`\`\``)
  return [
    `### ${quote(node.title ?? name)} (${
      union === "ClientMessage" ? `from ${sendersOf(name)}` : `to ${receiversOf(name)}`
    })`,
    node.description ?? "",
    table(["field of `data`", "type", "meaning"], rows),
    ...examples
  ].join("\n\n")
}

function sendersOf(name: string): string {
  const unions = ["AgentMessage", "GatewayMessage"].filter((union) => members(union).includes(name))
  return unions.length === 2 ? "agents and gateways" : unions[0] === "AgentMessage" ? "agents" : "gateways"
}

function receiversOf(name: string): string {
  if (name.endsWith("_agent")) return "agents"
  return name.endsWith("_gateway") ? "gateways" : "agents and gateways"
}

/** One row a field, depth first; a field of only some variants says whose it is. */
function fields(node: Node, prefix: string): ReadonlyArray<ReadonlyArray<string>> {
  const variants = (node.anyOf ?? [node]).map((variant) => ({ name: nameOf(variant), ...resolve(variant) }))
  const names = [...new Set(variants.flatMap((variant) => Object.keys(variant.properties ?? {})))]
  return names.flatMap((name) => {
    const having = variants.filter((variant) => variant.properties?.[name] !== undefined)
    const field = resolve(having[0]?.properties?.[name] ?? {})
    const only = having.length === variants.length
      ? ""
      : `; ${having.map((variant) => audienceOf(variant.name)).join()} only`
    const optional = having.every((variant) => variant.required?.includes(name)) ? "" : ", optional"
    const path = `${prefix}${name}`
    if (field.description === undefined) throw new Error(`the schema does not say what ${path} means`)
    const own = [quote(path), `${typeText(field)}${optional}${only}`, field.description]
    const inner = field.items === undefined ? fields(field, `${path}.`) : fields(field.items, `${path}[].`)
    return [own, ...inner]
  })
}

function audienceOf(name: string): string {
  return name.startsWith("Gateway") ? "gateways" : "agents"
}

function typeText(node: Node): string {
  if (node.items !== undefined) {
    return `array of ${typeText(resolve(node.items))}${node.maxItems === undefined ? "" : `, at most ${node.maxItems}`}`
  }
  if (node.anyOf !== undefined && node.type === undefined) {
    return [...new Set(node.anyOf.map((variant) => typeText(resolve(variant))))].join(" or ")
  }
  if (node.enum !== undefined)
    return node.enum.length > 3
      ? "string"
      : node.enum.map((value) => quote(JSON.stringify(value))).join(" or ")
  if (node.maxLength === undefined) return node.type ?? "any"
  return `${node.type}, ${
    node.minLength === undefined ? "at most" : `${node.minLength} to`
  } ${node.maxLength} characters`
}

function statesTable(): string {
  const rows = sendersAt("plain").map(([type, by]) => [
    quote(type),
    type === "auth" ? "admitted" : quote("unauthenticated"),
    ...(["agent", "gateway"] as const).map((client) =>
      type === "auth" ? quote("already_authenticated") : by.includes(client) ? "admitted" : quote("not_allowed")
    )
  ])
  return table(["message", "connected", "ready, agent", "ready, gateway"], [
    ...rows,
    ["any other", quote("unauthenticated"), quote("unknown_type"), quote("unknown_type")]
  ])
}

function quote(text: string): string {
  return `\`${text}\``
}

function table(head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string {
  const line = (cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n")
}
