import js from "@eslint/js";

const browser = [
  "Blob", "CustomEvent", "DecompressionStream", "Event", "Image", "ImageData", "MutationObserver", "ResizeObserver", "Response", "atob", "cancelAnimationFrame",
  "clearInterval", "clearTimeout", "console",
  "createImageBitmap", "fetch", "document", "history", "localStorage", "location", "matchMedia", "navigator", "requestAnimationFrame",
  "setInterval", "setTimeout", "URL", "URLSearchParams", "window",
];

/* What gr.HTML gives a component's script. */
const component = ["element", "props", "server", "trigger", "watch"];

export default [
  js.configs.recommended,
  {
    files: ["ovseg/demo/static/**/*.js"],
    languageOptions: { globals: Object.fromEntries([...browser, ...component].map((name) => [name, "readonly"])) },
    rules: { eqeqeq: "error", "no-var": "error", "prefer-const": "error", "max-lines": ["error", 400], "max-params": ["error", 6] },
  },
];
