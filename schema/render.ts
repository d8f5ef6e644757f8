/** Renders the published files from the schemas: JSON Schema, AsyncAPI, OpenAPI and protocol.md. Pure. */
import { asyncApi } from "./asyncapi.ts"
import { openApi } from "./openapi.ts"
import { jsonSchema } from "./renderSchema.ts"
import { blocks } from "./renderTables.ts"

/** Path from the project's root → text, for every generated file. `page` is the current protocol.md, whose prose is kept. */
export const renderAll = (page: string): Record<string, string> => ({
  "schema/generated/protocol.schema.json": asText(jsonSchema("plain")),
  "schema/generated/control.v1.schema.json": asText(jsonSchema("control.v1")),
  "schema/generated/asyncapi.json": asText(asyncApi()),
  "schema/generated/openapi.json": asText(openApi()),
  "protocol.md": renderPage(page)
})

/** protocol.md with every `<!-- generated: NAME -->` block replaced. Throws if a block is unknown or missing. */
export const renderPage = (page: string): string => {
  const missing = new Set(Object.keys(blocks))
  const rendered = page.replace(
    /(<!-- generated: (\S+) -->\n)[^]*?(<!-- \/generated -->)/g,
    (_, open: string, name: string, close: string) => {
      const block = blocks[name]
      if (block === undefined) throw new Error(`protocol.md has an unknown block: ${name}`)
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
