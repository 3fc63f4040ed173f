/* The kind of an image, from its name. The contract is in image_name.h. */
#include "runtime/io/image_name.h"

#include <stdio.h>
#include <string.h>

#include "runtime/core/text.h"

static const struct {
    const char *text;
    cld_image_kind kind;
} extensions[] = {
    {".jpeg", CLD_READABLE}, {".jpg", CLD_READABLE}, {".png", CLD_READABLE}, {".ppm", CLD_READABLE},
    {".pgm", CLD_READABLE},  {".bmp", CLD_BMP},      {".tif", CLD_TIFF},     {".tiff", CLD_TIFF},
    {".webp", CLD_WEBP},     {".gif", CLD_GIF},      {".heic", CLD_HEIC},    {".avif", CLD_AVIF},
};

/* tolower depends on the locale. */
static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

cld_image_kind cld_image_kind_of(const char *name) {
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof extensions / sizeof *extensions; i++) {
        const char *a = dot, *b = extensions[i].text;
        while (*b && lower(*a) == *b) a++, b++;
        if (!*a && !*b) return extensions[i].kind;
    }
    return CLD_NO_IMAGE;
}

const char *cld_unreadable_name(cld_image_kind kind) {
    static const char *const names[CLD_UNREADABLE_KINDS] = {
        [CLD_BMP] = "BMP", [CLD_TIFF] = "TIFF", [CLD_WEBP] = "WebP",
        [CLD_GIF] = "GIF", [CLD_HEIC] = "HEIC", [CLD_AVIF] = "AVIF",
    };
    return names[kind];
}

void cld_unreadable_text(char *out, size_t size, const int64_t counts[CLD_UNREADABLE_KINDS]) {
    size_t used = 0;
    if (size) *out = '\0';
    for (int k = 0; k < CLD_UNREADABLE_KINDS; k++)
        if (counts[k] && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%lld %s", used ? ", " : "",
                                     (long long)counts[k], cld_unreadable_name((cld_image_kind)k));
}

bool cld_is_utf8(const char *text) {
    unsigned code;
    size_t left = strlen(text);
    while (left > 0) {
        int bytes = (unsigned char)*text < 0x80 ? 1 : cld_utf8(text, left, &code);
        if (bytes == 0) return false;
        text += bytes;
        left -= (size_t)bytes;
    }
    return true;
}
