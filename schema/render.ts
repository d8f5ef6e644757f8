/** What is published, made from the schemas: the protocol as JSON Schemas, as an AsyncAPI document and as tables inside protocol.md, and the HTTP API. Pure. */
import { asyncApi } from "./asyncapi.ts"
import { openApi } from "./openapi.ts"
import { jsonSchema } from "./renderSchema.ts"
import { blocks } from "./renderTables.ts"

/** Path from the project's root → text, for every generated file; `page` is protocol.md as it is, whose prose is kept. */
export const renderAll = (page: string): Record<string, string> => ({
  "schema/generated/protocol.schema.json": asText(jsonSchema("plain")),
  "schema/generated/control.v1.schema.json": asText(jsonSchema("control.v1")),
  "schema/generated/asyncapi.json": asText(asyncApi()),
  "schema/generated/openapi.json": asText(openApi()),
  "protocol.md": renderPage(page)
})

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

function asText(document: object): string {
  return `${JSON.stringify(document, null, 2)}\n`
}
