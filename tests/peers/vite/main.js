document.title = "first";
import.meta.hot?.accept();
