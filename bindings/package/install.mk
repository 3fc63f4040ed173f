# make install, uninstall, deb, rock. The Lua files go where a stock Lua looks too: one copy serves both.
# Each folder can be set separately, such as LUADIR; DESTDIR goes in front of all. PCDIR= installs no cldlua.pc.

BINDIR     ?= $(PREFIX)/bin
CDIR       ?= $(PREFIX)/lib/lua/5.4
LUADIR     ?= $(PREFIX)/share/lua/5.4
PLUGINDIR  ?= $(PREFIX)/lib/cldlua
RECIPESDIR ?= $(PREFIX)/share/cldlua/recipes
DOCDIR     ?= $(PREFIX)/share/doc/cldlua
MANDIR     ?= $(PREFIX)/share/man
PCDIR      ?= $(PREFIX)/lib/pkgconfig

# A value for a word between @ in cldlua.pc.in, escaped for sed; and a folder with the prefix written as pkg-config's.
pc_text = $(subst &,\&,$(subst |,\|,$(subst \,\\,$(1))))
pc_folder = $(call pc_text,$(subst @start@,,$(subst @start@$(PREFIX)/,$${prefix}/,@start@$(1))))
PC_SED = s|@prefix@|$(call pc_text,$(PREFIX))|;s|@version@|$(VERSION)|;s|@bindir@|$(call pc_folder,$(BINDIR))|;
PC_SED += s|@cdir@|$(call pc_folder,$(CDIR))|;s|@luadir@|$(call pc_folder,$(LUADIR))|;
PC_SED += s|@plugindir@|$(call pc_folder,$(PLUGINDIR))|;s|@recipesdir@|$(call pc_folder,$(RECIPESDIR))|;
PC_SED += s|@docdir@|$(call pc_folder,$(DOCDIR))|

# The shell gets every folder between quotes.
QUOTED = $(findstring ',$(DESTDIR)$(BINDIR)$(CDIR)$(LUADIR)$(PLUGINDIR)$(RECIPESDIR)$(DOCDIR)$(MANDIR)$(PCDIR))
check_folders = $(if $(QUOTED),$(error make $@: a folder with a ' in its name is not taken (PREFIX, DESTDIR and others)))

# Installs the files of the tree $(1) that $(3) finds into the folder $(2). A tree that make has not built is left out.
install_tree = [ ! -d '$(1)' ] || (cd '$(1)' && find . -type f $(3) -exec install -Dm644 {} '$(DESTDIR)$(2)/{}' \;)

# DOCS is set if make can build the pages and the man page.
install: all $(if $(DOCS),docs)
	$(check_folders)
	install -Dm755 $(BUILD)/cldlua '$(DESTDIR)$(BINDIR)/cldlua'
	install -Dm755 $(BUILD)/cld/core.so '$(DESTDIR)$(CDIR)/cld/core.so'
	$(if $(HAVE_CUDA),install -Dm755 $(CUDA_PLUGIN) '$(DESTDIR)$(PLUGINDIR)/libcld_cuda.so')
	$(if $(MPICC),install -Dm755 $(MPI_PLUGIN) '$(DESTDIR)$(PLUGINDIR)/libcld_mpi.so')
	$(call install_tree,lua,$(LUADIR),\( -name '*.lua' -o -path '*/cld/report/page/*' \))
	$(call install_tree,$(BUILD)/lua,$(LUADIR),-name '*.lua')
	$(call install_tree,recipes,$(RECIPESDIR))
	install -Dm644 -t '$(DESTDIR)$(DOCDIR)' README.md LICENSE
	$(call install_tree,$(BUILD)/docs,$(DOCDIR)/html)
	[ ! -f $(BUILD)/cldlua.1 ] || install -Dm644 -t '$(DESTDIR)$(MANDIR)/man1' $(BUILD)/cldlua.1
	$(if $(PCDIR),mkdir -p '$(DESTDIR)$(PCDIR)' && sed '$(PC_SED)' bindings/package/cldlua.pc.in > '$(DESTDIR)$(PCDIR)/cldlua.pc')

# Also removes the folders that install may have made, if they are empty now. The prefix, its bin, lib, share and MANDIR
# stay.
uninstall:
	$(check_folders)
	rm -rf '$(DESTDIR)$(BINDIR)/cldlua' '$(DESTDIR)$(CDIR)/cld' '$(DESTDIR)$(LUADIR)/cld' '$(DESTDIR)$(PLUGINDIR)' \
	    '$(DESTDIR)$(RECIPESDIR)' '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(MANDIR)/man1/cldlua.1'
	$(if $(PCDIR),rm -f '$(DESTDIR)$(PCDIR)/cldlua.pc')
	@remove_empty() { [ ! -d "$$1" ] || rmdir --ignore-fail-on-non-empty "$$1"; }; \
	for folder in '$(CDIR)' '$(LUADIR)' '$(MANDIR)/man1' $(if $(PCDIR),'$(PCDIR)'); do remove_empty '$(DESTDIR)'"$$folder"; done; \
	for child in '$(CDIR)' '$(LUADIR)' '$(RECIPESDIR)' '$(DOCDIR)'; do remove_empty '$(DESTDIR)'"$$(dirname "$$child")"; done

# ---- packages --------------------------------------------------------------------

# build/package/cldlua_VERSION-1_ARCH.deb, and cldlua-mpi and cldlua-cuda if their libraries were built.
deb: all
	@rm -rf '$(BUILD)/package/root'
	@$(MAKE) --no-print-directory install PREFIX=/usr DESTDIR='$(abspath $(BUILD))/package/root' >/dev/null
	$(Q)sh bindings/package/deb.sh '$(BUILD)' '$(VERSION)'

# build/package/cldlua-VERSION-1.rockspec, and the sources that it builds. ROCK_URL: where they will be fetched from.
rock:
	$(Q)sh bindings/package/rock.sh '$(BUILD)' '$(VERSION)' '$(COMMIT)' $(filter spec/%.mk,$(MAKEFILE_LIST))

# Installs and uses both; with MIRROR=http://deb.debian.org/debian, as root, in a clean Debian too.
package-check: deb rock
	$(Q)sh bindings/package/check.sh '$(BUILD)' '$(MIRROR)'

.PHONY: install uninstall deb rock package-check
