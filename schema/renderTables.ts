/** The messages and codes as tables for protocol.md, made from the schemas. Pure. */
import { closeCodes, errorCodes } from "./codes.ts"
import type { ClientType } from "./ids.ts"
import { isAcceptedIn, sessionStates } from "./allowedMessages.ts"
import { sendersAt } from "./protocol.ts"
import {
  clientTypes,
  type Definitions,
  definitionsOf,
  members,
  nameOf,
  type Node,
  receiversOf,
  resolve,
  unionOf
} from "./renderSchema.ts"

type Direction = "ClientMessage" | "ControlMessage"

type Row = ReadonlyArray<string>

const plain = definitionsOf("plain")
const v1 = definitionsOf("control.v1")

/** By name, what stands between the marks of a generated block. */
export const blocks: Readonly<Record<string, () => string>> = {
  "client-messages": () => messagesOf("ClientMessage"),
  "control-messages": () => messagesOf("ControlMessage"),
  "session-states": sessionStatesTable,
  states: () => statesTable(sendersAt("plain"), true),
  "client-messages-v1": () => newMessagesOf("ClientMessage"),
  "control-messages-v1": () => newMessagesOf("ControlMessage"),
  "states-v1": statesTableV1,
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

/** A message of `control.v1` that is not the plain level's, and of its fields those that are not. */
interface New {
  readonly node: Node
  readonly parties: string
  readonly extends: boolean
  readonly rows: ReadonlyArray<Row>
}

/** Messages that follow each other and have the same fields are told of together. */
function newMessagesOf(direction: Direction): string {
  const groups: Array<[New, ...Array<New>]> = []
  for (const name of members(v1, direction)) {
    const node = definition(v1, name)
    const base = name.replace(/_v1$/u, "")
    if (base === name && plain[name] !== undefined) continue
    const known = plain[base] === undefined ? [] : rowsOf(plain, plain[base]).map((row) => row.join())
    const rows = rowsOf(v1, node).filter((row) => !known.includes(row.join()))
    const next: New = { node, parties: partiesOf(v1, direction, name), extends: known.length > 0, rows }
    const last = groups.at(-1)
    if (last !== undefined && isAlike(last[0], next)) last.push(next)
    else groups.push([next])
  }
  return groups.map(newSection).join("\n\n")
}

function isAlike(one: New, other: New): boolean {
  return one.parties === other.parties && String(one.rows) === String(other.rows)
}

function newSection(group: [New, ...Array<New>]): string {
  const [{ extends: isMore, node, parties, rows }] = group
  const names = group.map((message) => quote(message.node.title ?? ""))
  const texts = group.map((message, index) =>
    group.length === 1 ? message.node.description ?? "" : `- ${names[index]}: ${message.node.description}`
  )
  return [
    `### ${names.join(", ")} ${parties}`,
    texts.join("\n"),
    ...(isMore ? ["As at the plain level, and:"] : []),
    table(["field", "type", "meaning"], rows),
    ...(node.examples ?? []).map(jsonBlock)
  ].join("\n\n")
}

/** The fields of a whole message but its type. */
function rowsOf(definitions: Definitions, message: Node): ReadonlyArray<Row> {
  const { data = {}, type: _, ...places } = message.properties ?? {}
  return [
    ...fields(definitions, { properties: places, required: message.required ?? [] }, ""),
    ...fields(definitions, data, "data.")
  ]
}

function definition(definitions: Definitions, name: string): Node {
  const node = definitions[name]
  if (node === undefined) throw new Error(`no definition of ${name}`)
  return node
}

function jsonBlock(example: unknown): string {
  return `\`\`\`json\n${JSON.stringify(example, null, 2)}\n\`\`\``
}

function partiesOf(definitions: Definitions, direction: Direction, name: string): string {
  if (direction === "ControlMessage") return `(to ${inWords(receiversOf(name))})`
  const senders = clientTypes.filter((type) => members(definitions, unionOf[type]).includes(name))
  return `(from ${inWords(senders)})`
}

function inWords(clients: ReadonlyArray<ClientType>): string {
  return clients.map((type) => `${type}s`).join(" and ")
}

/** One row a field, depth first; a field of only some variants says whose it is. */
function fields(definitions: Definitions, node: Node, prefix: string): ReadonlyArray<Row> {
  const variants = (node.anyOf ?? [node]).map((variant) => ({
    name: nameOf(variant),
    ...resolve(definitions, variant)
  }))
  const names = [...new Set(variants.flatMap((variant) => Object.keys(variant.properties ?? {})))]
  return names.flatMap((name) => {
    const having = variants.filter((variant) => variant.properties?.[name] !== undefined)
    const field = resolve(definitions, having[0]?.properties?.[name] ?? {})
    const only = having.length === variants.length
      ? ""
      : `; ${having.map((variant) => audienceOf(variant.name)).join()} only`
    const optional = having.every((variant) => variant.required?.includes(name)) ? "" : ", optional"
    const path = `${prefix}${name}`
    if (field.description === undefined) throw new Error(`the schema does not say what ${path} means`)
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

function typeText(definitions: Definitions, node: Node): string {
  if (node.items !== undefined) {
    const item = typeText(definitions, resolve(definitions, node.items))
    return `array of ${item}${node.maxItems === undefined ? "" : `, at most ${node.maxItems}`}`
  }
  if (node.anyOf !== undefined && node.type === undefined) {
    const types = node.anyOf.map((variant) => typeText(definitions, resolve(definitions, variant)))
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
  return table(["state", "begins with", "what is read"], rows)
}

function statesTable(senders: ReturnType<typeof sendersAt>, hasOthers: boolean): string {
  const rows = senders.map(([type, by]) => [
    quote(type),
    isAcceptedIn("connected", { type }) ? "admitted" : quote("unauthenticated"),
    ...clientTypes.map((client) =>
      !isAcceptedIn("ready", { type })
        ? quote("already_authenticated")
        : by.includes(client)
        ? "admitted"
        : quote("not_allowed")
    )
  ])
  const others = ["any other", quote("unauthenticated"), quote("unknown_type"), quote("unknown_type")]
  return table(["message", "connected", "ready, agent", "ready, gateway"], hasOthers ? [...rows, others] : rows)
}

/** What may be said in `control.v1` only. */
function statesTableV1(): string {
  const known = new Set(sendersAt("plain").map(([type]) => type))
  return statesTable(sendersAt("control.v1").filter(([type]) => !known.has(type)), false)
}

function quote(text: string): string {
  return `\`${text}\``
}

function table(head: Row, rows: ReadonlyArray<Row>): string {
  const line = (cells: Row) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n")
}
