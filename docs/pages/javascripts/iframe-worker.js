// Browsers start no worker from a page that was opened as a file. The search then runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.ready = new Promise(resolve => this.frame.addEventListener("load", resolve, { once: true }))
      this.frame.srcdoc =
        "<script>postMessage = data => parent.postMessage({ iframeWorker: data }, '*')</script>" +
        `<script src="${url}"></script>`
      window.addEventListener("message", ({ data, source }) => {
        if (source === this.frame.contentWindow && data && "iframeWorker" in data)
          this.dispatchEvent(new MessageEvent("message", { data: data.iframeWorker }))
      })
      document.body.append(this.frame)
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
