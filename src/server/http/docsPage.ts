/** The page /docs and its assets: an outline that needs no script, then Swagger UI. */
import { Api } from "#schema/api.ts"
import { openApi } from "#schema/openapi.ts"
import { Effect } from "effect"
import { HttpRouter } from "effect/http"
import { HttpApiSwagger } from "effect/http-api"

const methods = ["get", "post", "put", "patch", "delete"] as const

/** The browser shows this page while it loads Swagger UI, and without scripts. */
export function docsPage(): string {
  const { info, paths } = openApi()
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    methods.flatMap((method) => {
      const operation = item[method]
      if (operation === undefined) return []
      const text = escape(operation.summary ?? operation.description ?? "")
      return [`<tr><td>${method.toUpperCase()}</td><td><code>${escape(path)}</code></td><td>${text}</td></tr>`]
    })
  )
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(info.title)}: HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<script src="/docs/swagger-ui.js" defer></script>
<script src="/docs/start.js" defer></script>
</head>
<body>
<div id="swagger-ui"><div class="swagger-ui"><div class="wrapper">
<h1>${escape(info.title)}: HTTP API</h1>
<p>${escape(info.description ?? "")}</p>
<p>Documents: <a href="/openapi.json">OpenAPI</a>, <a href="/asyncapi.json">AsyncAPI</a></p>
<table>${operations.join("\n")}</table>
</div></div></div>
</body>
</html>
`
}

/** `validatorUrl: null`, because the default sends the document's address to a public validator. */
export const startScript = `SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null
})
`

/**
 * Swagger UI as Effect ships it. Effect exports the page with everything inline only; separate files stay in the browser's
 * cache, and the page's content security policy can forbid inline scripts.
 */
export const swaggerUi: Effect.Effect<{ readonly css: string; readonly javascript: string }> = Effect.acquireUseRelease(
  Effect.sync(() => HttpRouter.toWebHandler(HttpApiSwagger.layer(Api), { disableLogger: true })),
  ({ handler }) =>
    Effect.promise(async () => {
      const page = await (await handler(new Request("http://localhost/docs"))).text()
      return {
        css: between(page, "<style>", "</style>"),
        javascript: between(page, "<script>", "window.onload =")
      }
    }),
  ({ dispose }) => Effect.promise(dispose)
)

function between(text: string, start: string, end: string): string {
  const from = text.indexOf(start)
  const to = text.lastIndexOf(end)
  if (from < 0 || to < from) throw new Error(`Swagger UI's page has no ${start} … ${end}`)
  return text.slice(from + start.length, to)
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("\"", "&quot;")
}
