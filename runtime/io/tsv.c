/* Writing tables of numbers as text. The contract is in tsv.h. */
#include "runtime/io/tsv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/text.h"
#include "runtime/io/file.h"

enum { MOST = 24 }; /* bytes of a number and the tab or newline after it */

/* The fewest digits, from 6 to 9, that read back as the same f32. */
static size_t number(char *to, float value) {
    int length = 0;
    if (isnan(value)) return (size_t)snprintf(to, MOST, "nan");
    for (int digits = 6; digits <= 9; digits++) {
        length = snprintf(to, MOST, "%.*g", digits, (double)value);
        if (strtof(to, NULL) == value) break;
    }
    return (size_t)length;
}

static void put_rows(cld_writer *w, const float *x, int64_t rows, int64_t columns, char *line) {
    for (int64_t i = 0; i < rows; i++) {
        size_t length = 0;
        for (int64_t j = 0; j < columns; j++) {
            length += number(line + length, *x++);
            line[length++] = j + 1 < columns ? '\t' : '\n';
        }
        if (cld_writer_put(w, line, length) != CLD_OK) return;
    }
}

cld_status cld_tsv_save(const char *path, cld_tensor *table) {
    if (table->a.dtype != CLD_F32 || table->a.ndim != 2)
        return cld_fail(CLD_INVALID, "save_tsv: expected f32[rows, columns]");
    int64_t rows = table->a.shape[0], columns = table->a.shape[1];
    cld_tensor *near = cld_tensor_on_host(table);
    char *line = near ? malloc((size_t)columns * MOST + 1) : NULL;
    cld_writer w;
    cld_status status = CLD_OK;
    if (near && !line) status = cld_fail(CLD_NOMEM, "out of memory for a line of '%s'", path);
    if (!near) status = cld_error_code();
    if (status == CLD_OK) status = cld_writer_open(&w, path);
    if (status == CLD_OK) {
        locale_t before = cld_enter_c_locale();
        put_rows(&w, near->a.data, rows, columns, line);
        cld_leave_c_locale(before);
        status = cld_writer_commit(&w);
    }
    free(line);
    cld_tensor_free(near);
    return status;
}
