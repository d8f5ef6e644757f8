/** Renders messages, states and codes as tables for protocol.md. Pure. */
import { closeCodes, errorCodes } from "./codes.ts"
import type { ClientType } from "./ids.ts"
import { isAcceptedIn, sessionStates } from "./allowedMessages.ts"
import { messageSenders } from "./protocol.ts"
import {
  clientTypes,
  clientUnionNames,
  type Definitions,
  definitionsOf,
  members,
  receiversOf,
  referenceName,
  resolveReference,
  type SchemaNode
} from "./renderSchema.ts"

type Direction = "ClientMessage" | "ControlMessage"

type Row = ReadonlyArray<string>

const plain = definitionsOf("plain")
const controlV1 = definitionsOf("control.v1")

/** Renderers of the generated blocks, by block name. */
export const blocks: Readonly<Record<string, () => string>> = {
  "client-messages": () => messagesOf("ClientMessage"),
  "control-messages": () => messagesOf("ControlMessage"),
  "session-states": sessionStatesTable,
  states: () => statesTable(messageSenders("plain"), true),
  "client-messages-v1": () => addedMessagesOf("ClientMessage"),
  "control-messages-v1": () => addedMessagesOf("ControlMessage"),
  "states-v1": statesTableV1,
  "error-codes": () =>
    table(["code", "meaning"], Object.entries(errorCodes).map(([code, text]) => [quote(code), text])),
  "close-codes": () =>
    table(
      ["code", "meaning", "the client should"],
      Object.values(closeCodes)
        .toSorted((one, other) => one.code - other.code)
        .map(({ clientAction, code, meaning }) => [String(code), meaning, clientAction])
    )
}

/** Every message of the plain level. */
function messagesOf(direction: Direction): string {
  return members(plain, direction).map((name) => {
    const node = definition(plain, name)
    return [
      `### ${quote(node.title ?? name)} ${partiesOf(plain, direction, name)}`,
      node.description ?? "",
      table(["field of `data`", "type", "meaning"], fields(plain, node.properties?.["data"] ?? {}, "")),
      ...(node.examples ?? []).map(jsonBlock)
    ].join("\n\n")
  }).join("\n\n")
}

/** A message that `control.v1` adds or extends, with the fields that the plain level does not have. */
interface AddedMessage {
  readonly node: SchemaNode
  readonly parties: string
  readonly extends: boolean
  readonly rows: ReadonlyArray<Row>
}

/** Consecutive messages with the same fields share one section. */
function addedMessagesOf(direction: Direction): string {
  const groups: Array<[AddedMessage, ...Array<AddedMessage>]> = []
  for (const name of members(controlV1, direction)) {
    const node = definition(controlV1, name)
    const base = name.replace(/_v1$/u, "")
    if (base === name && plain[name] !== undefined) continue
    const known = plain[base] === undefined ? [] : rowsOf(plain, plain[base]).map((row) => row.join())
    const rows = rowsOf(controlV1, node).filter((row) => !known.includes(row.join()))
    const next: AddedMessage = { node, parties: partiesOf(controlV1, direction, name), extends: known.length > 0, rows }
    const last = groups.at(-1)
    if (last !== undefined && haveSameFields(last[0], next)) last.push(next)
    else groups.push([next])
  }
  return groups.map(addedMessagesSection).join("\n\n")
}

function haveSameFields(one: AddedMessage, other: AddedMessage): boolean {
  return one.parties === other.parties && String(one.rows) === String(other.rows)
}

function addedMessagesSection(group: [AddedMessage, ...Array<AddedMessage>]): string {
  const [{ extends: isMore, node, parties, rows }] = group
  const names = group.map((message) => quote(message.node.title ?? ""))
  const texts = group.map((message, index) =>
    group.length === 1 ? message.node.description ?? "" : `- ${names[index]}: ${message.node.description}`
  )
  return [
    `### ${names.join(", ")} ${parties}`,
    texts.join("\n"),
    ...(isMore ? ["Same fields as at the plain level, and:"] : []),
    table(["field", "type", "meaning"], rows),
    ...(node.examples ?? []).map(jsonBlock)
  ].join("\n\n")
}

/** Rows for all fields of a message except `type`. */
function rowsOf(definitions: Definitions, message: SchemaNode): ReadonlyArray<Row> {
  const { data = {}, type: _, ...positionFields } = message.properties ?? {}
  return [
    ...fields(definitions, { properties: positionFields, required: message.required ?? [] }, ""),
    ...fields(definitions, data, "data.")
  ]
}

function definition(definitions: Definitions, name: string): SchemaNode {
  const node = definitions[name]
  if (node === undefined) throw new Error(`no definition of ${name}`)
  return node
}

function jsonBlock(example: unknown): string {
  return `\`\`\`json\n${JSON.stringify(example, null, 2)}\n\`\`\``
}

function partiesOf(definitions: Definitions, direction: Direction, name: string): string {
  if (direction === "ControlMessage") return `(to ${joinTypes(receiversOf(name))})`
  const senders = clientTypes.filter((type) => members(definitions, clientUnionNames[type]).includes(name))
  return `(from ${joinTypes(senders)})`
}

function joinTypes(clients: ReadonlyArray<ClientType>): string {
  return clients.map((type) => `${type}s`).join(" and ")
}

/** One row for each field, depth first. A field that only some variants have names the type of client. */
function fields(definitions: Definitions, node: SchemaNode, prefix: string): ReadonlyArray<Row> {
  const variants = (node.anyOf ?? [node]).map((variant) => ({
    name: referenceName(variant),
    ...resolveReference(definitions, variant)
  }))
  const names = [...new Set(variants.flatMap((variant) => Object.keys(variant.properties ?? {})))]
  return names.flatMap((name) => {
    const containing = variants.filter((variant) => variant.properties?.[name] !== undefined)
    const field = resolveReference(definitions, containing[0]?.properties?.[name] ?? {})
    const only = containing.length === variants.length
      ? ""
      : `; ${containing.map((variant) => audienceOf(variant.name)).join()} only`
    const optional = containing.every((variant) => variant.required?.includes(name)) ? "" : ", optional"
    const path = `${prefix}${name}`
    if (field.description === undefined) throw new Error(`the schema has no description of ${path}`)
    const own = [quote(path), `${typeText(definitions, field)}${optional}${only}`, field.description]
    const inner = field.items === undefined
      ? fields(definitions, field, `${path}.`)
      : fields(definitions, field.items, `${path}[].`)
    return [own, ...inner]
  })
}

function audienceOf(name: string): string {
  return name.startsWith("Gateway") ? "gateways" : "agents"
}

function typeText(definitions: Definitions, node: SchemaNode): string {
  if (node.items !== undefined) {
    const item = typeText(definitions, resolveReference(definitions, node.items))
    return `array of ${item}${node.maxItems === undefined ? "" : `, at most ${node.maxItems}`}`
  }
  if (node.anyOf !== undefined && node.type === undefined) {
    const types = node.anyOf.map((variant) => typeText(definitions, resolveReference(definitions, variant)))
    return [...new Set(types)].join(" or ")
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

function sessionStatesTable(): string {
  const rows = Object.entries(sessionStates).map(([state, { begins, reads }]) => [state, begins, reads])
  return table(["state", "begins with", "accepted messages"], rows)
}

function statesTable(senders: ReturnType<typeof messageSenders>, hasOthers: boolean): string {
  const rows = senders.map(([type, by]) => [
    quote(type),
    isAcceptedIn("connected", { type }) ? "accepted" : quote("unauthenticated"),
    ...clientTypes.map((client) =>
      !isAcceptedIn("ready", { type })
        ? quote("already_authenticated")
        : by.includes(client)
        ? "accepted"
        : quote("not_allowed")
    )
  ])
  const others = ["any other", quote("unauthenticated"), quote("unknown_type"), quote("unknown_type")]
  return table(["message", "connected", "ready, agent", "ready, gateway"], hasOthers ? [...rows, others] : rows)
}

/** States table of the messages that only `control.v1` has. */
function statesTableV1(): string {
  const known = new Set(messageSenders("plain").map(([type]) => type))
  return statesTable(messageSenders("control.v1").filter(([type]) => !known.has(type)), false)
}

function quote(text: string): string {
  return `\`${text}\``
}

function table(head: Row, rows: ReadonlyArray<Row>): string {
  const line = (cells: Row) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n")
}
