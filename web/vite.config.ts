import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";
import { writeRecord } from "./build-record.ts";

const OUT = "../everlong/serving/static";

/** Everything the built page may do. The page itself says so, whatever serves it. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types dompurify",
].join("; ");

/** Puts the policy first in <head>; only in the build, because Vite's own client needs more. */
function contentSecurityPolicy(): Plugin {
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: () => [
      {
        tag: "meta",
        attrs: { "http-equiv": "Content-Security-Policy", content: POLICY },
        injectTo: "head-prepend",
      },
    ],
  };
}

/** Nothing is drawn before the script has set the colours: no white flash on a dark page. */
function blockRendering(): Plugin {
  return {
    name: "block-rendering",
    apply: "build",
    transformIndexHtml: {
      order: "post",
      handler: (html) => html.replace("<script ", '<script blocking="render" '),
    },
  };
}

/** Writes build.json, by which a test sees that the committed build is of the committed source. */
function buildRecord(): Plugin {
  return {
    name: "build-record",
    apply: "build",
    closeBundle: () => writeRecord(import.meta.dirname, `${import.meta.dirname}/${OUT}`),
  };
}

export default defineConfig({
  base: "./",
  plugins: [contentSecurityPolicy(), blockRendering(), buildRecord()],
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.md" },
  },
  server: {
    proxy: Object.fromEntries(
      ["/v1", "/health"].map((path) => [
        path,
        { target: process.env["EVERLONG_URL"] ?? "http://127.0.0.1:8000", changeOrigin: true },
      ]),
    ),
  },
  test: { include: ["tests/**/*.test.ts"] },
});
